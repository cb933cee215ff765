"""A stack on a mesh: params and activations named by logical axes, rules that place the names."""

from typing import Any

import jax
from flax import nnx
from flax.core import spmd

from nnx_impl.rngs import linen_rngs


class ShardedBlock(nnx.Module):
    """`relu(x @ kernel + bias)`, every axis named: (features,) -> (features,)."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(
            features,
            features,
            kernel_metadata={"out_sharding": ("in", "out")},
            bias_metadata={"out_sharding": ("out",)},
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        new_x = with_logical_constraint(nnx.relu(self.dense(x)), ("features",))
        return new_x


class Sharded(nnx.Module):
    """vmap(scan), the axes of both lifts named too: params ("layers", ...), the batch on "data"."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        # What the scan stacks is given the name of its new axis, which a scan alone leaves out.
        @nnx.transform_metadata(
            in_axes=(None, None), out_axes=(None, 0), partition="layers", graph=False
        )
        def init_layer(_, rngs):
            return None, ShardedBlock(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params, their first axis called "layers".
    def scan_layer(self, x: jax.Array) -> jax.Array:
        # Made by each call: one that is made once keeps the rules under which it was first traced.
        call = ShardedBlock.__call__
        scan = nnx.scan(call, in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
        return scan(self.layers, x)

    # Vmap: one example becomes B, all with the same params; the batch lies on the axis "data".
    @nnx.vmap(in_axes=(None, 0), out_axes=0, spmd_axis_name="data", graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scan_layer(x)


def init_sharded(seed: int, num_layers: int, features: int, mesh: jax.sharding.Mesh) -> Any:
    """The stack of `seed`, each leaf made on `mesh`, where `logical_axis_rules` put it."""

    def init():
        rngs = linen_rngs(seed, draws=("Dense_0", "Dense_0"), num_scans=1)
        return nnx.state(Sharded(num_layers, features, rngs=rngs), nnx.Param)

    # Each leaf is a variable whose metadata have the names of its axes.
    with jax.set_mesh(mesh):
        shardings = nnx.get_named_sharding(nnx.eval_shape(init), mesh)
        return jax.jit(init, out_shardings=shardings)()


def with_logical_constraint(x: jax.Array, names: tuple[str, ...]) -> jax.Array:
    """`nn.with_logical_constraint`, which NNX has not: the rules place `x`, if there is a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, spmd.get_pspec(names))
