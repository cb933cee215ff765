"""What a scan takes and returns beside the carry: for each layer, for all layers, and in order."""

import jax
from flax import linen as nn


class ConditionedBlock(nn.Module):
    """`relu(x @ kernel + bias + shift) * gain`: (features,) -> (features,), and what is before.

    Args of the call: x (features,); shift (features,), of this layer; gain (features,), of all.
    """

    features: int

    @nn.compact
    def __call__(
        self, x: jax.Array, shift: jax.Array, gain: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        before = nn.Dense(self.features)(x) + shift
        new_x = nn.relu(before) * gain
        return new_x, before


def Conditioned(num_layers: int, features: int, reverse: bool, unroll: int) -> nn.Module:
    """vmap(scan), shifts (N, F) scanned, gain (F,) broadcast, what is before relu stacked."""

    # Scan: one layer becomes N; it gets its own shift and the gain of all, and returns a row.
    ScanLayer = nn.scan(
        ConditionedBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast),
        out_axes=0,
        length=num_layers,
        reverse=reverse,
        unroll=unroll,
    )

    # Vmap: one example becomes B, all with the same params, shifts and gain.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=(0, None, None),
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)


def OtherAxes(num_layers: int, features: int) -> nn.Module:
    """vmap(scan), shifts (F, N) scanned by axis 1, what is before relu stacked along it."""

    # Scan: one layer becomes N; the layers of what it takes and returns are along axis 1.
    ScanLayer = nn.scan(
        ConditionedBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(1, nn.broadcast),
        out_axes=1,
        length=num_layers,
    )

    # Vmap: one example becomes B, along the last axis of what is before relu.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=(0, None, None),
        out_axes=(0, -1),
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)
