"""Three dense layers, a residual and a norm; other names on each side."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(16)(x)
        h = nn.relu(h)
        y = nn.Dense(16)(h)
        h = h + y
        h = nn.LayerNorm()(h)
        h = h * 0.5
        z = nn.tanh(nn.Dense(16)(h))
        h = jnp.concatenate([h, z], axis=-1)
        return nn.Dense(5)(h)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(8, 16, rngs=rngs)
        self.second = nnx.Linear(16, 16, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.third = nnx.Linear(16, 16, rngs=rngs)
        self.last = nnx.Linear(32, 5, rngs=rngs)

    def __call__(self, x):
        a = self.first(x)
        a = nnx.relu(a)
        b = self.second(a)
        a = a + b
        a = self.norm(a)
        a = a * 0.5
        c = nnx.tanh(self.third(a))
        a = jnp.concatenate([a, c], axis=-1)
        return self.last(a)


PAIR = Pair(
    linen=MLP(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((6, 8), "float32"),),
)
