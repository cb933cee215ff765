"""Dropout in a stack: a mask of its own for each layer and each example, or one for the batch."""

import jax
from flax import nnx


class DropoutBlock(nnx.Module):
    """`dropout(relu(x @ kernel + bias))`: (features,) -> (features,)."""

    def __init__(self, features: int, rate: float, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)
        self.dropout = nnx.Dropout(rate, deterministic=False)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        x = nnx.relu(self.dense(x))
        new_x = self.dropout(x, rngs=rngs)
        return new_x


class OwnMasks(nnx.Module):
    """vmap(scan), dropout split by both: a mask for each layer and example; params (N, ...)."""

    def __init__(self, num_layers: int, features: int, rate: float, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, DropoutBlock(features, rate, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))
        self.num_layers = num_layers

    # Scan: one layer becomes N, each with its own params and its own mask.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry, 0), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: DropoutBlock, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        return layer(x, rngs)

    # Vmap: one example becomes B, all with the same params, each with its own masks.
    @nnx.vmap(in_axes=(None, 0, 0), out_axes=0, graph=False)
    def batched_scan_layer(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        return self.scan_layer(self.layers, x, rngs.split(self.num_layers))

    def __call__(self, x_batch: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        return self.batched_scan_layer(x_batch, rngs.split(x_batch.shape[0]))


class SharedMasks(OwnMasks):
    """vmap(scan), dropout split by the scan only: one mask a layer for the batch, in silence."""

    # Init and scan: those of `OwnMasks`.

    # Vmap: one example becomes B, all with the same params and the same masks.
    @nnx.vmap(in_axes=(None, 0, None), out_axes=0, graph=False)
    def batched_scan_layer(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        return self.scan_layer(self.layers, x, rngs.split(self.num_layers))

    def __call__(self, x_batch: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        return self.batched_scan_layer(x_batch, rngs)
