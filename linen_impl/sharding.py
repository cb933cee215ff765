"""A stack on a mesh: params and activations named by logical axes, rules that place the names."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import meta

from linen_impl.rngs import linen_rngs


class ShardedBlock(nn.Module):
    """`relu(x @ kernel + bias)`, every axis named: (features,) -> (features,)."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        dense = nn.Dense(
            self.features,
            kernel_init=nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("in", "out")),
            bias_init=nn.with_logical_partitioning(nn.initializers.zeros_init(), ("out",)),
        )
        new_x = nn.with_logical_constraint(nn.relu(dense(x)), ("features",))
        return new_x, None


def Sharded(num_layers: int, features: int) -> nn.Module:
    """vmap(scan), the axes of both lifts named too: params ("layers", ...), the batch on "data"."""

    # Scan: one layer becomes N, each with its own params, their first axis called "layers".
    ScanLayer = nn.scan(
        ShardedBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )

    # Vmap: one example becomes B, all with the same params; the batch lies on the axis "data".
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
        spmd_axis_name="data",
    )

    return BatchedScanLayer(features=features)


def init_sharded(seed: int, num_layers: int, features: int, mesh: jax.sharding.Mesh) -> Any:
    """The stack of `seed`, each leaf made on `mesh`, where `logical_axis_rules` put it."""
    model = Sharded(num_layers, features)

    def init():
        return model.init(linen_rngs(seed), jnp.zeros((1, features)), None)

    # Each leaf comes in a box with the names of its axes, which `meta.unbox` takes off.
    names = nn.get_partition_spec(jax.eval_shape(init))
    shardings = nn.logical_to_mesh_sharding(names, mesh)
    return jax.jit(lambda: meta.unbox(init()), out_shardings=shardings)()
