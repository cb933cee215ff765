"""Tied weights: one layer run N times, and one table that embeds tokens and scores them."""

import jax
from flax import linen as nn

from linen_impl.block import Block


def TiedLayers(num_layers: int, features: int) -> nn.Module:
    """scan of one layer over itself: params of one layer, kernel (F, F), used N times."""

    # Scan: one layer becomes N, all with the same params.
    ScanLayer = nn.scan(
        Block,
        variable_broadcast="params",
        split_rngs={"params": False},
        length=num_layers,
    )

    return ScanLayer(features=features)


class TiedEmbedding(nn.Module):
    """A stack between the two uses of one table: tokens (B,) -> logits (B, vocab)."""

    num_layers: int
    features: int
    vocab: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        embed = nn.Embed(self.vocab, self.features)

        # Scan: one layer becomes N, each with its own params.
        ScanLayer = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.num_layers,
        )

        x, _ = ScanLayer(self.features, name="layers")(embed(tokens), None)
        return embed.attend(x)
