"""Forms of NNX that are still found, and what each becomes. In Linen nothing has changed."""

from flax import linen as nn

from linen_impl.block import Block


def Modern(num_layers: int, features: int) -> nn.Module:
    """vmap(scan), as it is written now: works in every mode of NNX."""

    # Scan: one layer becomes N, each with its own params; what else it may hold is not stacked.
    ScanLayer = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same variables.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)


def Legacy(num_layers: int, features: int) -> nn.Module:
    """vmap(scan), as it was written before: works in NNX's default mode alone."""

    # Scan: one layer becomes N, each with its own params; what else it may hold is not stacked.
    ScanLayer = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same variables.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)
