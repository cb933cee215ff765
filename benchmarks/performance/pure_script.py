"""The exercise as a script of plain JAX: weights, one forward pass, a number. No module system."""

import jax
import jax.numpy as jnp

NUM_LAYERS, FEATURES, BATCH_SIZE = 4, 64, 8


def init(key):
    """The layers' weights, (N, F, F) and (N, F)."""
    kernel = jax.nn.initializers.lecun_normal(batch_axis=0)(key, (NUM_LAYERS, FEATURES, FEATURES))
    return kernel, jnp.zeros((NUM_LAYERS, FEATURES))


def forward(params, x_batch):
    """(B, F) -> (B, F)."""

    def layer(x, params):
        kernel, bias = params
        return jax.nn.relu(x @ kernel + bias), None

    return jax.vmap(lambda x: jax.lax.scan(layer, x, params)[0])(x_batch)


if __name__ == "__main__":
    x_batch = jax.random.normal(jax.random.key(1), (BATCH_SIZE, FEATURES))
    final = jax.jit(forward)(jax.jit(init)(jax.random.key(0)), x_batch)
    print(final.shape, float(final.mean()))
