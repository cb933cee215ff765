"""A scanned stack of layers with dropout, a mask for each; attributes switch it off."""

import jax
from flax import linen as nn
from flax import nnx

from shared import Pair

B, D, N = 3, 6, 4
he = nn.initializers.he_normal()


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = nn.Dense(D, kernel_init=he)(x)
        y = nn.Dropout(0.25, deterministic=True)(y)
        x = x + nn.relu(y)
        return x, None


class Deep(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(D, name="stem")(x)
        layers = nn.scan(
            Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=N,
        )
        x, _ = layers(name="layers")(x, None)
        return nn.Dense(2, name="head")(x)


class Step(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(D, D, kernel_init=he, rngs=rngs)
        self.drop = nnx.Dropout(0.25, deterministic=True, rngs=rngs)

    def __call__(self, x):
        h = self.dense(x)
        h = self.drop(h)
        return x + nnx.relu(h)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(5, D, rngs=rngs)
        self.steps = nnx.vmap(Step)(rngs.split(N))
        self.last = nnx.Linear(D, 2, rngs=rngs)

    def __call__(self, x):
        h = self.first(x)
        run = nnx.scan(lambda h, step: step(h), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        h = run(h, self.steps)
        return self.last(h)


PAIR = Pair(
    linen=Deep(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((B, 5), "float32"),),
)
