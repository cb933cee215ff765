"""Rematerialisation in a stack: what is kept of a layer for the way back, what computed anew."""

import jax
from flax import linen as nn

from linen_impl.block import Block


def Rematerialised(num_layers: int, features: int, policy: str) -> nn.Module:
    """vmap(scan(remat)): of each layer is kept what the policy names; params (N, ...)."""

    # Remat: on the way back one layer is computed once more. A scan needs no barrier to CSE.
    RematLayer = nn.remat(
        Block,
        policy=getattr(jax.checkpoint_policies, policy),
        prevent_cse=False,
    )

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        RematLayer,
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


class Layer(nn.Module):
    """`relu(x @ kernel + bias)`: (features,) -> (features,)."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        new_x = nn.relu(nn.Dense(self.features)(x))
        return new_x


def NestedRemat(num_layers: int, inner: int, features: int) -> nn.Module:
    """vmap(remat_scan): N groups of I layers, a group computed once more; params (N, I, ...)."""

    # Scan: a layer becomes I, a group.
    # Remat and scan: on the way back one group is computed once more; it becomes N.
    RematScanLayer = nn.remat_scan(Layer, lengths=(num_layers, inner))

    # Vmap: one example becomes B, all with the same params.
    BatchedRematScanLayer = nn.vmap(
        RematScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedRematScanLayer(features=features)
