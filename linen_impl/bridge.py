"""Half migrated: a model of one API around a stack of the other, through `nnx.bridge`."""

from typing import Any

import jax
from flax import linen as nn
from flax import nnx

from linen_impl.composed import Shared
from shared.linen_keys import fold_in_path


class Block(nnx.Module):
    """`relu(x @ kernel + bias)`, of the other API: (features,) -> (features,)."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        new_x = nnx.relu(self.dense(x))
        return new_x


class Stack(nnx.Module):
    """vmap(scan), of the other API: every example goes through one stack; params (N, ...)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, Block(features, rngs=rngs)

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


class HalfMigrated(nn.Module):
    """The stack of the other API, and a scale of this one: (B, features) -> (B, features)."""

    num_layers: int
    features: int

    @nn.compact
    def __call__(self, x_batch: jax.Array) -> jax.Array:
        # Bridge: the class and its arguments, of which the wrapper makes a module at each call.
        stack = nnx.bridge.ToLinen(Stack, args=(self.num_layers, self.features), name="stack")
        scale = self.param("scale", nn.initializers.ones_init(), (self.features,))
        return stack(x_batch) * scale


def init_as_linen(model: HalfMigrated, rngs: dict[str, jax.Array], x_batch: jax.Array) -> Any:
    """The variables of `model`, with a stack as Linen draws it: that of NNX draws otherwise."""
    params = model.init(rngs, x_batch)["params"]
    # The key that Linen gives the scope of the stack, here to the stack as it was before.
    key = fold_in_path(rngs["params"], "stack", 1)
    before = Shared(model.num_layers, model.features).init(key, x_batch, None)["params"]
    return {"params": {**params, "stack": {"layers": {"dense": before["Dense_0"]}}}}
