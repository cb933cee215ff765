"""BatchNorm in a stack: statistics of each layer, over the whole batch that vmap maps."""

import jax
from flax import linen as nn


class NormBlock(nn.Module):
    """`relu(norm(x @ kernel + bias))`: (features,) -> (features,)."""

    features: int
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        x = nn.Dense(self.features)(x)
        x = nn.BatchNorm(use_running_average=not self.train, axis_name="batch")(x)
        new_x = nn.relu(x)
        return new_x, None


def Synchronised(num_layers: int, features: int, train: bool) -> nn.Module:
    """vmap(scan), one mean for the batch; params and batch_stats (N, ...)."""

    # Scan: one layer becomes N, each with its own params and statistics.
    ScanLayer = nn.scan(
        NormBlock,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same params; axis_name is where their means meet.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None, "batch_stats": None},
        split_rngs={"params": False},
        axis_name="batch",
    )

    return BatchedScanLayer(features=features, train=train)
