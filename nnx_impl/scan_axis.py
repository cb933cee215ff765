"""A stack whose layer axis is the second one of each param (param_scan_axis=1 of MaxText)."""

import jax
from flax import nnx

from nnx_impl.block import Block


class ScanAxis1(nnx.Module):
    """scan on axis 1: kernel (in, N, out), bias (out, N). The batch goes through as it is."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        # Linen's variable_axes is said twice: here as the axis of what comes out, the keys go in
        # on axis 0, and below as the axis of what goes in.
        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 1), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params, side by side on axis 1.
    @staticmethod
    @nnx.scan(in_axes=(1, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: Block, x_batch: jax.Array) -> jax.Array:
        return layer(x_batch)

    def __call__(self, x_batch: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x_batch)
