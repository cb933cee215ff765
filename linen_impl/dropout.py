"""Dropout in a stack: a mask of its own for each layer and each example, or one for the batch."""

import jax
from flax import linen as nn


class DropoutBlock(nn.Module):
    """`dropout(relu(x @ kernel + bias))`: (features,) -> (features,)."""

    features: int
    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        x = nn.relu(nn.Dense(self.features)(x))
        new_x = nn.Dropout(self.rate, deterministic=False)(x)
        return new_x, None


def OwnMasks(num_layers: int, features: int, rate: float) -> nn.Module:
    """vmap(scan), dropout split by both: a mask for each layer and example; params (N, ...)."""

    # Scan: one layer becomes N, each with its own params and its own mask.
    ScanLayer = nn.scan(
        DropoutBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same params, each with its own masks.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False, "dropout": True},
    )

    return BatchedScanLayer(features=features, rate=rate)


def SharedMasks(num_layers: int, features: int, rate: float) -> nn.Module:
    """vmap(scan), dropout split by the scan only: one mask a layer for the batch, in silence."""

    # Scan: one layer becomes N, each with its own params and its own mask.
    ScanLayer = nn.scan(
        DropoutBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same params and the same masks.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False, "dropout": False},
    )

    return BatchedScanLayer(features=features, rate=rate)
