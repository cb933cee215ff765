"""A stack whose layer holds a dict of layers: under the layer axis the tree is that of a layer."""

import jax
from flax import linen as nn

from linen_impl.block import Block


class Pair(nn.Module):
    """Two layers by name, first `up`, then `down`: (features,) -> (features,)."""

    features: int

    def setup(self):
        # A dict of modules: each one's name is that of the attribute and its key, `blocks_up`.
        self.blocks = {"up": Block(self.features), "down": Block(self.features)}

    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        x, _ = self.blocks["up"](x, None)
        new_x, _ = self.blocks["down"](x, None)
        return new_x, None


def NestedStack(num_layers: int, features: int) -> nn.Module:
    """scan of a layer that holds layers: params {blocks_up, blocks_down}, each (N, ...)."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        Pair,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    return ScanLayer(features=features)
