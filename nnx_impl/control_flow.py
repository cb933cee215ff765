"""Control flow inside of a layer: one of two, one of several, and again as long as."""

import jax
import jax.numpy as jnp
from flax import nnx


class ChoosingBlock(nnx.Module):
    """`x @ kernel + bias`, once or again, times 1, 2 or 3: (features,) -> (features,)."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)

    # Cond: the numbers decide; both branches get the module, whose params are made before.
    def choose(self, x: jax.Array) -> jax.Array:
        def again(block, x):
            return nnx.relu(block.dense(x))

        def once(block, x):
            return nnx.silu(x)

        return nnx.cond(jnp.sum(x) > 0, again, once, self, x, graph=False)

    # Switch: the same with any number of branches.
    def scale(self, x: jax.Array) -> jax.Array:
        branches = [lambda _, x, k=k: (1 + k) * x for k in range(3)]
        return nnx.switch(jnp.sum(x > 0) % 3, branches, self, x, graph=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.dense(x)
        new_x = self.scale(self.choose(x))
        return new_x


class RepeatingBlock(nnx.Module):
    """`relu(x @ kernel + bias)`, again for each positive number: (features,) -> (features,)."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)

    # While: the module is a part of what is carried.
    def repeat(self, x: jax.Array) -> jax.Array:
        def is_left(carry):
            _, count, _ = carry
            return count > 0

        def once(carry):
            block, count, x = carry
            return block, count - 1, nnx.relu(block.dense(x))

        count = jnp.sum(x > 0)
        _, _, new_x = nnx.while_loop(is_left, once, (self, count, x), graph=False)
        return new_x

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.dense(x))
        new_x = self.repeat(x)
        return new_x


class Choosing(nnx.Module):
    """vmap(scan) of layers with cond and switch; params (N, ...)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, ChoosingBlock(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: ChoosingBlock, x: jax.Array) -> jax.Array:
        return layer(x)

    # Vmap: one example becomes B, all with the same params; a branch becomes a selection.
    @nnx.vmap(in_axes=(None, 0), out_axes=0, graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x)


class Repeating(nnx.Module):
    """vmap(scan) of layers with a while loop, which has no gradient; params (N, ...)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, RepeatingBlock(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: RepeatingBlock, x: jax.Array) -> jax.Array:
        return layer(x)

    # Vmap: one example becomes B, all with the same params; the loop runs for the longest.
    @nnx.vmap(in_axes=(None, 0), out_axes=0, graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x)
