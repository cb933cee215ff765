"""A stack whose layer holds a dict of layers: under the layer axis the tree is that of a layer."""

import jax
from flax import nnx

from nnx_impl.block import Block


class Pair(nnx.Module):
    """Two layers by name, first `up`, then `down`: (features,) -> (features,)."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        # A dict of modules is an `nnx.Dict`; its keys are names of their own, `blocks/up`.
        self.blocks = nnx.Dict(up=Block(features, rngs=rngs), down=Block(features, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.blocks["up"](x)
        new_x = self.blocks["down"](x)
        return new_x


class NestedStack(nnx.Module):
    """scan of a layer that holds layers: params {blocks_up, blocks_down}, each (N, ...)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Pair(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: Pair, x_batch: jax.Array) -> jax.Array:
        return layer(x_batch)

    def __call__(self, x_batch: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x_batch)
