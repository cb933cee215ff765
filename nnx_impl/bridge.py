"""Half migrated: a model of one API around a stack of the other, through `nnx.bridge`."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx


class Block(nn.Module):
    """`relu(x @ kernel + bias)`, of the other API: (features,) -> (features,)."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        new_x = nn.relu(nn.Dense(self.features)(x))
        return new_x, None


def Stack(num_layers: int, features: int) -> nn.Module:
    """vmap(scan), of the other API: every example goes through one stack; params (N, ...)."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same params.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)


class HalfMigrated(nnx.Module):
    """The stack of the other API, and a scale of this one: (B, features) -> (B, features)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        # Bridge: the module, whose variables a first call makes; they become its attributes.
        stack, example = nnx.bridge.ToNNX(Stack(num_layers, features)), jnp.zeros((1, features))
        self.stack = stack.lazy_init(example, None, rngs=rngs.params())
        self.scale = nnx.Param(jnp.ones(features))

    def __call__(self, x_batch: jax.Array) -> jax.Array:
        final, _ = self.stack(x_batch, None)
        return final * self.scale
