"""Control flow inside of a layer: one of two, one of several, and again as long as."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class ChoosingBlock(nn.Module):
    """`x @ kernel + bias`, once or again, times 1, 2 or 3: (features,) -> (features,)."""

    features: int

    def setup(self):
        self.dense = nn.Dense(self.features)

    # Cond: the numbers decide; both branches get the module, whose params are made before.
    def choose(self, x: jax.Array) -> jax.Array:
        def again(block, x):
            return nn.relu(block.dense(x))

        def once(block, x):
            return nn.silu(x)

        return nn.cond(jnp.sum(x) > 0, again, once, self, x)

    # Switch: the same with any number of branches.
    def scale(self, x: jax.Array) -> jax.Array:
        branches = [lambda _, x, k=k: (1 + k) * x for k in range(3)]
        return nn.switch(jnp.sum(x > 0) % 3, branches, self, x)

    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        x = self.dense(x)
        new_x = self.scale(self.choose(x))
        return new_x, None


class RepeatingBlock(nn.Module):
    """`relu(x @ kernel + bias)`, again for each positive number: (features,) -> (features,)."""

    features: int

    def setup(self):
        self.dense = nn.Dense(self.features)

    # While: the params are broadcast, not carried: they were made before the loop.
    def repeat(self, x: jax.Array) -> jax.Array:
        def is_left(block, carry):
            count, _ = carry
            return count > 0

        def once(block, carry):
            count, x = carry
            return count - 1, nn.relu(block.dense(x))

        count = jnp.sum(x > 0)
        _, new_x = nn.while_loop(is_left, once, self, (count, x), broadcast_variables="params")
        return new_x

    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        x = nn.relu(self.dense(x))
        new_x = self.repeat(x)
        return new_x, None


def Choosing(num_layers: int, features: int) -> nn.Module:
    """vmap(scan) of layers with cond and switch; params (N, ...)."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        ChoosingBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same params; a branch becomes a selection.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)


def Repeating(num_layers: int, features: int) -> nn.Module:
    """vmap(scan) of layers with a while loop, which has no gradient; params (N, ...)."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        RepeatingBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same params; the loop runs for the longest.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)
