"""Forms of NNX that are still found, and what each becomes. In Linen nothing has changed."""

# The type of StateAxes does not admit the dicts that its documentation shows.
# mypy: disable-error-code="arg-type"

import jax
from flax import nnx

from nnx_impl.block import Block


class Modern(nnx.Module):
    """vmap(scan), as it is written now: works in every mode of NNX."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params; what else it may hold is not stacked.
    def scan_layer(self, x: jax.Array) -> jax.Array:
        axes = nnx.prefix(self.layers, {nnx.Param: 0, ...: None}, graph=False)
        scan = nnx.scan(Block.__call__, in_axes=(axes, nnx.Carry), out_axes=nnx.Carry, graph=False)
        return scan(self.layers, x)

    # Vmap: one example becomes B, all with the same variables.
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        vmap = nnx.vmap(Modern.scan_layer, in_axes=(None, 0), out_axes=0, graph=False)
        return vmap(self, x_batch)


class Legacy(nnx.Module):
    """vmap(scan), as it was written before: works in NNX's default mode alone."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        # The split changes `rngs` for the time of the call. `rngs.split` leaves it as it is, and
        # a scan makes layer after layer where vmap needs the memory of all of them at once.
        @nnx.split_rngs(splits=num_layers)
        @nnx.vmap(in_axes=(nnx.StateAxes({...: 0}),), out_axes=nnx.StateAxes({...: 0}))
        def init_layers(rngs):
            return Block(features, rngs=rngs)

        self.layers = init_layers(rngs)

    # Scan: one layer becomes N, each with its own params; what else it may hold is not stacked.
    def scan_layer(self, x: jax.Array) -> jax.Array:
        @nnx.scan(in_axes=(nnx.StateAxes({nnx.Param: 0, ...: None}), nnx.Carry))
        def scan(layer, x):
            return layer(x), None  # the default of out_axes: a carry, and what is stacked

        final, _ = scan(self.layers, x)
        return final

    # Vmap: one example becomes B, all with the same variables.
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        # Where the decorator stands on a method, in other modes the import of the file fails.
        @nnx.vmap(in_axes=(nnx.StateAxes({...: None}), 0))
        def vmap(self, x):
            return self.scan_layer(x)

        return vmap(self, x_batch)
