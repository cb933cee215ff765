"""Rematerialisation in a stack: what is kept of a layer for the way back, what computed anew."""

import functools

import jax
from flax import nnx

from nnx_impl.block import Block


class Rematerialised(nnx.Module):
    """vmap(scan(remat)): of each layer is kept what the policy names; params (N, ...)."""

    def __init__(self, num_layers: int, features: int, policy: str, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))
        self.policy = policy

    @staticmethod
    @functools.cache  # made once for each policy
    def make_scan(policy: str):
        # Remat: on the way back one layer is computed once more. A scan needs no barrier to CSE.
        remat_layer = nnx.remat(
            Block.__call__,
            policy=getattr(jax.checkpoint_policies, policy),
            prevent_cse=False,
            graph=False,
        )

        # Scan: one layer becomes N, each with its own params.
        return nnx.scan(remat_layer, in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)

    # Vmap: one example becomes B, all with the same params.
    @nnx.vmap(in_axes=(None, 0), out_axes=0, graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        scan = self.make_scan(self.policy)
        return scan(self.layers, x)


class Layer(nnx.Module):
    """`relu(x @ kernel + bias)`: (features,) -> (features,)."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        new_x = nnx.relu(self.dense(x))
        return new_x


class NestedRemat(nnx.Module):
    """vmap(remat_scan): N groups of I layers, a group computed once more; params (N, I, ...)."""

    def __init__(self, num_layers: int, inner: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Layer(features, rngs=rngs)

        def init_group(_, rngs):
            scan = nnx.scan(
                init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False
            )
            return scan(None, rngs.split(inner))

        scan = nnx.scan(init_group, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: a layer becomes I, a group.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: Layer, x: jax.Array) -> jax.Array:
        return layer(x)

    # Remat and scan: on the way back one group is computed once more; it becomes N.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    @nnx.remat(prevent_cse=False, graph=False)
    def remat_scan_layer(group: Layer, x: jax.Array) -> jax.Array:
        return NestedRemat.scan_layer(group, x)

    # Vmap: one example becomes B, all with the same params.
    @nnx.vmap(in_axes=(None, 0), out_axes=0, graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.remat_scan_layer(self.layers, x)
