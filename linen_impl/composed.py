"""The exercise: N layers by scan, each with its own params; B examples by vmap, sharing them."""

import functools

import jax
from flax import linen as nn

from linen_impl.block import Block
from linen_impl.rngs import linen_rngs
from shared.arguments import check_arguments


def composed_lifts_forward(
    seed: int, x_batch: jax.Array, num_layers: int, features: int
) -> jax.Array:
    """Initialises the stack from `seed` and runs it: (B, features) -> (B * features,)."""
    check_arguments(x_batch, num_layers, features)
    model = Shared(num_layers, features)
    variables = init(model, linen_rngs(seed), x_batch)
    final = forward(model, variables, x_batch)
    return final.reshape(-1)


@functools.partial(jax.jit, static_argnums=0)
def init(model, rngs, x_batch):
    """The variables of a model: compiled once for all seeds."""
    return model.init(rngs, x_batch, None)


@functools.partial(jax.jit, static_argnums=0)
def forward(model, variables, x_batch):
    """(B, F) -> (B, F). The model is static; its variables are an argument."""
    final, _ = model.apply(variables, x_batch, None)
    return final


@functools.cache  # nn.scan makes a new class each time, which would be compiled anew
def Shared(num_layers: int, features: int) -> nn.Module:
    """vmap(scan): every example goes through one stack; params (N, ...)."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same params.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)


def Reversed(num_layers: int, features: int) -> nn.Module:
    """scan(vmap): the whole batch goes through layer after layer; params (N, ...)."""

    # Vmap: one example becomes B, all with the same params.
    BatchedLayer = nn.vmap(
        Block,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    # Scan: one layer becomes N, each with its own params.
    ScanBatchedLayer = nn.scan(
        BatchedLayer,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    return ScanBatchedLayer(features=features)
