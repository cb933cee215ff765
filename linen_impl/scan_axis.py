"""A stack whose layer axis is the second one of each param (param_scan_axis=1 of MaxText)."""

from flax import linen as nn

from linen_impl.block import Block


def ScanAxis1(num_layers: int, features: int) -> nn.Module:
    """scan on axis 1: kernel (in, N, out), bias (out, N). The batch goes through as it is."""

    # Scan: one layer becomes N, each with its own params, side by side on axis 1.
    ScanLayer = nn.scan(
        Block,
        variable_axes={"params": 1},
        split_rngs={"params": True},
        length=num_layers,
    )

    return ScanLayer(features=features)
