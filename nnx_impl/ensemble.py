"""What else a vmap can do with params: own ones, own copies of one set, or a contradiction."""

import jax
from flax import nnx

from nnx_impl.block import Block
from nnx_impl.composed import Shared


class Ensemble(nnx.Module):
    """vmap(scan), params mapped and split: B stacks, one for each example; params (B, N, ...)."""

    def __init__(self, num_layers: int, features: int, batch_size: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        def init_stack(rngs):
            scan = nnx.scan(
                init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False
            )
            _, layers = scan(None, rngs.split(num_layers))
            return layers

        # Linen's split_rngs is True: split. Its variable_axes are 0: out_axes.
        vmap = nnx.vmap(init_stack, in_axes=0, out_axes=0, graph=False)
        self.layers = vmap(rngs.split(batch_size))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: Block, x: jax.Array) -> jax.Array:
        return layer(x)

    # Vmap: one example becomes B, each with its own params.
    @nnx.vmap(in_axes=(0, 0), out_axes=0, graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x)


class ReversedEnsemble(nnx.Module):
    """scan(vmap), params mapped and split: N layers, each of B members; params (N, B, ...)."""

    def __init__(self, num_layers: int, features: int, batch_size: int, *, rngs: nnx.Rngs):
        def init_member(rngs):
            return Block(features, rngs=rngs)

        def init_layer(_, rngs):
            # Linen's split_rngs is True: split. Its variable_axes are 0: out_axes.
            vmap = nnx.vmap(init_member, in_axes=0, out_axes=0, graph=False)
            return None, vmap(rngs.split(batch_size))

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Vmap: one example becomes B, each with its own params.
    @staticmethod
    @nnx.vmap(in_axes=(0, 0), out_axes=0, graph=False)
    def ensemble_layer(member: Block, x: jax.Array) -> jax.Array:
        return member(x)

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_ensemble_layer(members: Block, x_batch: jax.Array) -> jax.Array:
        return ReversedEnsemble.ensemble_layer(members, x_batch)

    def __call__(self, x_batch: jax.Array) -> jax.Array:
        return self.scan_ensemble_layer(self.layers, x_batch)


class IdenticalCopies(Ensemble):
    """vmap(scan), params mapped but not split: B equal copies of one stack; params (B, N, ...)."""

    def __init__(self, num_layers: int, features: int, batch_size: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        def init_stack(rngs):
            scan = nnx.scan(
                init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False
            )
            _, layers = scan(None, rngs.split(num_layers))
            return layers

        # Linen's split_rngs is False: the same rngs for all. Its variable_axes are 0: out_axes.
        vmap = nnx.vmap(init_stack, in_axes=None, out_axes=0, axis_size=batch_size, graph=False)
        self.layers = vmap(rngs)

    # Scan and vmap: those of `Ensemble`.


class Confused(Shared):
    """vmap(scan), params split but not mapped: B stacks with room for one; init raises."""

    def __init__(self, num_layers: int, features: int, batch_size: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        def init_stack(rngs):
            scan = nnx.scan(
                init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False
            )
            _, layers = scan(None, rngs.split(num_layers))
            return layers

        # Linen's split_rngs is True: split. Its variable_axes are None: out_axes. This raises.
        vmap = nnx.vmap(init_stack, in_axes=0, out_axes=None, graph=False)
        self.layers = vmap(rngs.split(batch_size))

    # Scan and vmap: those of `Shared`, to which the rngs of init mean nothing.
