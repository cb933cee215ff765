"""One layer on one example."""

import jax
from flax import nnx


class Block(nnx.Module):
    """`relu(x @ kernel + bias)`: (features,) -> (features,).

    A plain layer: what `nnx.scan` asks of its body is asked of a function around it.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        new_x = nnx.relu(self.dense(x))
        return new_x
