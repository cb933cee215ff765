"""Tied weights: one layer run N times, and one table that embeds tokens and scores them."""

import functools

import jax
from flax import nnx

from nnx_impl.block import Block


class TiedLayers(nnx.Module):
    """scan of one layer over itself: params of one layer, kernel (F, F), used N times."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        # One layer is made, outside of any scan.
        self.layer = Block(features, rngs=rngs)
        self.num_layers = num_layers

    # Scan: one layer becomes N, all with the same params.
    @staticmethod
    @functools.cache  # made once for each length
    def make_scan(num_layers: int):
        return nnx.scan(
            Block.__call__,
            in_axes=(None, nnx.Carry),
            out_axes=nnx.Carry,
            length=num_layers,
            graph=False,
        )

    def __call__(self, x_batch: jax.Array) -> jax.Array:
        scan = self.make_scan(self.num_layers)
        return scan(self.layer, x_batch)


class TiedEmbedding(nnx.Module):
    """A stack between the two uses of one table: tokens (B,) -> logits (B, vocab)."""

    def __init__(self, num_layers: int, features: int, vocab: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        self.embed = nnx.Embed(vocab, features, rngs=rngs)
        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: Block, x: jax.Array) -> jax.Array:
        return layer(x)

    # One module used twice: its table has one place in the tree, and one gradient.
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.scan_layer(self.layers, self.embed(tokens))
        return self.embed.attend(x)
