"""Mixed precision: params are kept in float32, layers compute in bfloat16."""

import jax
import jax.numpy as jnp
from flax import nnx


class MixedBlock(nnx.Module):
    """`relu(x @ kernel + bias)` in bfloat16: (features,) -> (features,), whatever dtype x has."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        # dtype is that of the arithmetic and of the result, param_dtype that of the params.
        self.dense = nnx.Linear(
            features, features, dtype=jnp.bfloat16, param_dtype=jnp.float32, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        new_x = nnx.relu(self.dense(x))
        return new_x


class MixedPrecision(nnx.Module):
    """The stack in bfloat16, between two casts: (B, F) -> (B, F), in the dtype of the batch."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, MixedBlock(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: MixedBlock, x: jax.Array) -> jax.Array:
        return layer(x)

    # A carry keeps its dtype: what comes out of a layer is bfloat16, so what goes in has to be.
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        x = x_batch.astype(jnp.bfloat16)
        x = self.scan_layer(self.layers, x)
        return x.astype(x_batch.dtype)
