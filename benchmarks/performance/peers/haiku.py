"""Haiku: `layer_stack` in `hk.vmap`."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.performance.peers.column import Column, Found, Weights
from shared.bench.rows import jitted


def columns(weights: Weights, x: np.ndarray) -> Found:
    num_layers, features = weights.bias.shape

    def block(x):
        return jax.nn.relu(hk.Linear(features)(x))

    def model(x):
        stack = hk.experimental.layer_stack(num_layers)(block)
        return hk.vmap(lambda x: stack(x), split_rng=False)(x)

    own = jnp.array(x)
    transformed = hk.without_apply_rng(hk.transform(model))
    shapes = jax.eval_shape(transformed.init, jax.random.key(0), own)
    # One module, of the parameters `b` and `w`.
    (name,) = shapes
    params = {name: {"b": jnp.array(weights.bias), "w": jnp.array(weights.kernel)}}
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)

    def loss(params, x):
        return jnp.sum(transformed.apply(params, x))

    def read(returned):
        value, gradient = returned
        leaves = gradient[name]
        return float(value), Weights(np.asarray(leaves["b"]), np.asarray(leaves["w"]))

    column = Column(
        jitted(transformed.apply, params, own),
        jitted(jax.value_and_grad(loss), params, own),
        np.asarray,
        read,
    )
    return {"haiku": column}, ()
