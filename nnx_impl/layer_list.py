"""N layers in a Python loop, each with its own name; and from a list to a stack and back."""

import jax
import jax.numpy as jnp
from flax import nnx

from nnx_impl.block import Block


class LayerList(nnx.Module):
    """No lift: params are N subtrees, and a program grows with N. (B, F) -> (B, F)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        # An `nnx.List`, for a plain list holds no variables. Their names are its indices.
        self.layers = nnx.List([Block(features, rngs=rngs) for _ in range(num_layers)])

    def __call__(self, x_batch: jax.Array) -> jax.Array:
        # Loop: layer after layer, each with its own params.
        for layer in self.layers:
            x_batch = layer(x_batch)
        return x_batch


def stack(layers):
    """The layers of a list as one, each of its leaves (N, ...): what a scan over them takes."""
    # A module is a tree of its variables' arrays: N blocks become a block.
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)


def unstack(layers):
    """The inverse of `stack`: a list of N layers."""
    num_layers = len(jax.tree.leaves(layers)[0])
    blocks = [jax.tree.map(lambda leaf, i=i: leaf[i], layers) for i in range(num_layers)]
    return nnx.List(blocks)
