"""What a scan takes and returns beside the carry: for each layer, for all layers, and in order."""

import functools

import jax
from flax import nnx


class ConditionedBlock(nnx.Module):
    """`relu(x @ kernel + bias + shift) * gain`: (features,) -> (features,), and what is before.

    Args of the call: x (features,); shift (features,), of this layer; gain (features,), of all.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)

    def __call__(
        self, x: jax.Array, shift: jax.Array, gain: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        before = self.dense(x) + shift
        new_x = nnx.relu(before) * gain
        return new_x, before


class Conditioned(nnx.Module):
    """vmap(scan), shifts (N, F) scanned, gain (F,) broadcast, what is before relu stacked."""

    def __init__(
        self, num_layers: int, features: int, reverse: bool, unroll: int, *, rngs: nnx.Rngs
    ):
        def init_layer(_, rngs):
            return None, ConditionedBlock(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))
        self.reverse = reverse
        self.unroll = unroll

    # Scan: one layer becomes N; it gets its own shift and the gain of all, and returns a row.
    @staticmethod
    @functools.cache  # made once for each order
    def make_scan(reverse: bool, unroll: int):
        return nnx.scan(
            ConditionedBlock.__call__,
            in_axes=(0, nnx.Carry, 0, None),
            out_axes=(nnx.Carry, 0),
            reverse=reverse,
            unroll=unroll,
            graph=False,
        )

    # Vmap: one example becomes B, all with the same params, shifts and gain.
    @nnx.vmap(in_axes=(None, 0, None, None), out_axes=0, graph=False)
    def __call__(
        self, x: jax.Array, shifts: jax.Array, gain: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        scan = self.make_scan(self.reverse, self.unroll)
        return scan(self.layers, x, shifts, gain)


class OtherAxes(nnx.Module):
    """vmap(scan), shifts (F, N) scanned by axis 1, what is before relu stacked along it."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, ConditionedBlock(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N; the layers of what it takes and returns are along axis 1.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry, 1, None), out_axes=(nnx.Carry, 1), graph=False)
    def scan_layer(
        layer: ConditionedBlock, x: jax.Array, shift: jax.Array, gain: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return layer(x, shift, gain)

    # Vmap: one example becomes B, along the last axis of what is before relu.
    @nnx.vmap(in_axes=(None, 0, None, None), out_axes=(0, -1), graph=False)
    def __call__(
        self, x: jax.Array, shifts: jax.Array, gain: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return self.scan_layer(self.layers, x, shifts, gain)
