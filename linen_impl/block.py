"""One layer on one example."""

import jax
from flax import linen as nn


class Block(nn.Module):
    """`relu(x @ kernel + bias)`: (features,) -> (features,).

    The call has the shape that `nn.scan` asks of its body: (carry, x) -> (carry, y).
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        new_x = nn.relu(nn.Dense(self.features)(x))
        return new_x, None
