"""N layers in a Python loop, each with its own name; and from a list to a stack and back."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from linen_impl.block import Block


class LayerList(nn.Module):
    """No lift: params are N subtrees, and a program grows with N. (B, F) -> (B, F)."""

    num_layers: int
    features: int

    @nn.compact
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        # Loop: layer after layer, each with its own params.
        for i in range(self.num_layers):
            x_batch, _ = Block(self.features, name=f"layers_{i}")(x_batch, None)
        return x_batch


def stack(layers):
    """The layers of a list as one, each of its leaves (N, ...): what a scan over them takes."""
    # The names are counted, not sorted: "layers_10" is before "layers_2" in a tree.
    trees = [layers[f"layers_{i}"] for i in range(len(layers))]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(layers):
    """The inverse of `stack`: a list of N layers."""
    num_layers = len(jax.tree.leaves(layers)[0])
    trees = [jax.tree.map(lambda leaf, i=i: leaf[i], layers) for i in range(num_layers)]
    return {f"layers_{i}": tree for i, tree in enumerate(trees)}
