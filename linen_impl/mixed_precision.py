"""Mixed precision: params are kept in float32, layers compute in bfloat16."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class MixedBlock(nn.Module):
    """`relu(x @ kernel + bias)` in bfloat16: (features,) -> (features,), whatever dtype x has."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        # dtype is that of the arithmetic and of the result, param_dtype that of the params.
        dense = nn.Dense(self.features, dtype=jnp.bfloat16, param_dtype=jnp.float32)
        new_x = nn.relu(dense(x))
        return new_x, None


class MixedPrecision(nn.Module):
    """The stack in bfloat16, between two casts: (B, F) -> (B, F), in the dtype of the batch."""

    num_layers: int
    features: int

    @nn.compact
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        # A carry keeps its dtype: what comes out of a layer is bfloat16, so what goes in has to be.
        x = x_batch.astype(jnp.bfloat16)

        # Scan: one layer becomes N, each with its own params.
        ScanLayer = nn.scan(
            MixedBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.num_layers,
        )

        x, _ = ScanLayer(self.features, name="layers")(x, None)
        return x.astype(x_batch.dtype)
