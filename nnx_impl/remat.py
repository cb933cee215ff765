"""Rematerialisation in a stack: what is kept of a layer for the way back, what computed anew."""

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

    def scan_layer(self, x: jax.Array) -> jax.Array:
        # Remat: on the way back one layer is computed once more. A scan needs no barrier to CSE.
        policy = getattr(jax.checkpoint_policies, self.policy)
        layer = nnx.remat(Block.__call__, policy=policy, prevent_cse=False, graph=False)

        # Scan: one layer becomes N, each with its own params.
        scan = nnx.scan(layer, in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
        return scan(self.layers, x)

    # Vmap: one example becomes B, all with the same params.
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        vmap = nnx.vmap(Rematerialised.scan_layer, in_axes=(None, 0), out_axes=0, graph=False)
        return vmap(self, x_batch)


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
    def scan_group(group: Layer, x: jax.Array) -> jax.Array:
        scan = nnx.scan(Layer.__call__, in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
        return scan(group, x)

    # Remat and scan: on the way back one group is computed once more; it becomes N.
    def remat_scan(self, x: jax.Array) -> jax.Array:
        group = nnx.remat(NestedRemat.scan_group, prevent_cse=False, graph=False)
        scan = nnx.scan(group, in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
        return scan(self.layers, x)

    # Vmap: one example becomes B, all with the same params.
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        vmap = nnx.vmap(NestedRemat.remat_scan, in_axes=(None, 0), out_axes=0, graph=False)
        return vmap(self, x_batch)
