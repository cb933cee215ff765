"""The exercise: N layers by scan, each with its own params; B examples by vmap, sharing them."""

import functools

import jax
from flax import nnx

from nnx_impl.block import Block
from nnx_impl.rngs import linen_rngs
from shared.arguments import check_arguments


def composed_lifts_forward(
    seed: int, x_batch: jax.Array, num_layers: int, features: int
) -> jax.Array:
    """Initialises the stack from `seed` and runs it: (B, features) -> (B * features,)."""
    check_arguments(x_batch, num_layers, features)
    # Linen's names for the two draws of a layer, kernel and bias, in one nn.scan.
    rngs = linen_rngs(seed, draws=("Dense_0", "Dense_0"), num_scans=1)
    graphdef, state = init(num_layers, features, rngs)
    final = forward(graphdef, state, x_batch)
    return final.reshape(-1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def init(num_layers, features, rngs):
    """The graph and the state of a model: compiled once for all seeds."""
    return nnx.split(Shared(num_layers, features, rngs=rngs))


@functools.partial(jax.jit, static_argnums=0)
def forward(graphdef, state, x_batch):
    """(B, F) -> (B, F). The graph is static; its state is an argument."""
    final = nnx.merge(graphdef, state)(x_batch)
    return final


class Shared(nnx.Module):
    """vmap(scan): every example goes through one stack; params (N, ...)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        # Linen's split_rngs is the split, its variable_axes the axes of Block. The vmap, with
        # neither for params, has no part in making them.
        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: Block, x: jax.Array) -> jax.Array:
        return layer(x)

    # Vmap: one example becomes B, all with the same params.
    @nnx.vmap(in_axes=(None, 0), out_axes=0, graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x)


class Reversed(nnx.Module):
    """scan(vmap): the whole batch goes through layer after layer; params (N, ...)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        # As in `Shared`: only the scan splits and maps.
        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Vmap: one example becomes B, all with the same params.
    @staticmethod
    @nnx.vmap(in_axes=(None, 0), out_axes=0, graph=False)
    def batched_layer(layer: Block, x: jax.Array) -> jax.Array:
        return layer(x)

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_batched_layer(layer: Block, x_batch: jax.Array) -> jax.Array:
        return Reversed.batched_layer(layer, x_batch)

    def __call__(self, x_batch: jax.Array) -> jax.Array:
        return self.scan_batched_layer(self.layers, x_batch)
