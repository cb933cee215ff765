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
            scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
            _, layers = scan(None, rngs.split(num_layers))
            return layers

        # Linen's split_rngs is True: split. Its variable_axes are 0: out_axes.
        self.layers = nnx.vmap(init_stack, in_axes=0, out_axes=0)(rngs.split(batch_size))

    # Scan: one layer becomes N, each with its own params.
    def scan_layer(self, x: jax.Array) -> jax.Array:
        graphdef, params = nnx.split(self.layers, nnx.Param)

        def one_layer(x, params):
            return nnx.merge(graphdef, params)(x)

        return nnx.scan(one_layer, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, params)

    # Vmap: one example becomes B, each with its own params.
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        graphdef, params = nnx.split(self, nnx.Param)

        def one_example(params, x):
            return nnx.merge(graphdef, params).scan_layer(x)

        return nnx.vmap(one_example, in_axes=(0, 0), out_axes=0)(params, x_batch)


class ReversedEnsemble(nnx.Module):
    """scan(vmap), params mapped and split: N layers, each of B members; params (N, B, ...)."""

    def __init__(self, num_layers: int, features: int, batch_size: int, *, rngs: nnx.Rngs):
        def init_member(rngs):
            return Block(features, rngs=rngs)

        def init_layer(_, rngs):
            # Linen's split_rngs is True: split. Its variable_axes are 0: out_axes.
            vmap = nnx.vmap(init_member, in_axes=0, out_axes=0)
            return None, vmap(rngs.split(batch_size))

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
        _, self.layers = scan(None, rngs.split(num_layers))

    # Vmap: one example becomes B, each with its own params.
    @staticmethod
    def ensemble_layer(members: Block, x_batch: jax.Array) -> jax.Array:
        graphdef, params = nnx.split(members, nnx.Param)

        def one_example(params, x):
            return nnx.merge(graphdef, params)(x)

        return nnx.vmap(one_example, in_axes=(0, 0), out_axes=0)(params, x_batch)

    # Scan: one layer becomes N, each with its own params.
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        graphdef, params = nnx.split(self.layers, nnx.Param)

        def one_layer(x_batch, params):
            return ReversedEnsemble.ensemble_layer(nnx.merge(graphdef, params), x_batch)

        return nnx.scan(one_layer, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x_batch, params)


class IdenticalCopies(Ensemble):
    """vmap(scan), params mapped but not split: B equal copies of one stack; params (B, N, ...)."""

    def __init__(self, num_layers: int, features: int, batch_size: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        def init_stack(rngs):
            scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
            _, layers = scan(None, rngs.split(num_layers))
            return layers

        # Linen's split_rngs is False: the same rngs for all. Its variable_axes are 0: out_axes.
        vmap = nnx.vmap(init_stack, in_axes=None, out_axes=0, axis_size=batch_size)
        self.layers = vmap(rngs)

    # Scan and vmap: those of `Ensemble`.


class Confused(Shared):
    """vmap(scan), params split but not mapped: B stacks with room for one; init raises."""

    def __init__(self, num_layers: int, features: int, batch_size: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        def init_stack(rngs):
            scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
            _, layers = scan(None, rngs.split(num_layers))
            return layers

        # Linen's split_rngs is True: split. Its variable_axes are None: out_axes. This raises.
        self.layers = nnx.vmap(init_stack, in_axes=0, out_axes=None)(rngs.split(batch_size))

    # Scan and vmap: those of `Shared`, to which the rngs of init mean nothing.
