"""Two towers with streams of their own, and a recurrence with one mask for all of its steps."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

B, T, D = 3, 5, 6


class Cell(nn.Module):
    @nn.compact
    def __call__(self, h, x):
        h = nn.Dropout(0.3, deterministic=True)(h)
        h = nn.tanh(nn.Dense(D, name="state")(h) + nn.Dense(D, name="input")(x))
        return h, h


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        a = nn.tanh(nn.Dense(D, name="left")(x))
        a = nn.Dropout(0.2, rng_collection="left", deterministic=True)(a)
        b = nn.silu(nn.Dense(D, name="right")(x))
        b = nn.Dropout(0.2, rng_collection="right", deterministic=True)(b)
        cells = nn.scan(
            Cell,
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": False},
            in_axes=1,
            out_axes=1,
        )
        h, _ = cells(name="cell")(jnp.zeros((B, D)), a + b)
        return nn.Dense(2, name="head")(h)


class Step(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.3, deterministic=True)
        self.state = nnx.Linear(D, D, rngs=rngs)
        self.input = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, h, x, key):
        h = self.drop(h, rngs=key)
        return nnx.tanh(self.state(h) + self.input(x))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.left = nnx.Linear(D, D, rngs=rngs)
        self.left_drop = nnx.Dropout(0.2, rng_collection="left", deterministic=True, rngs=rngs)
        self.right = nnx.Linear(D, D, rngs=rngs)
        self.right_drop = nnx.Dropout(0.2, rng_collection="right", deterministic=True, rngs=rngs)
        self.step = Step(rngs)
        self.last = nnx.Linear(D, 2, rngs=rngs)
        self.rngs = rngs.fork()

    def __call__(self, x):
        a = self.left_drop(nnx.tanh(self.left(x)))
        b = self.right_drop(nnx.silu(self.right(x)))
        c, h = a + b, jnp.zeros((B, D))
        key = self.rngs.dropout()
        for i in range(T):
            h = self.step(h, c[:, i], key)
        return self.last(h)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(nnx.Rngs(0, left=1, right=2)),
    inputs=(jax.ShapeDtypeStruct((B, T, D), "float32"),),
)
