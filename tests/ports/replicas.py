"""Members with weights and masks of their own, and a head with a mask for each example."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

B, D, M = 4, 6, 3


class Member(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.tanh(nn.Dense(D, name="wide")(x))
        y = nn.Dropout(0.2, deterministic=True)(y)
        return nn.Dense(D, name="narrow")(y)


class Head(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dropout(0.4, deterministic=True)(x)
        return nn.Dense(2, name="logits")(y)


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        members = nn.vmap(
            Member,
            in_axes=None,
            out_axes=0,
            axis_size=M,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
        )
        x = jnp.mean(members(name="members")(x), axis=0)
        heads = nn.vmap(
            Head,
            in_axes=0,
            out_axes=0,
            variable_axes={"params": None},
            split_rngs={"params": False, "dropout": True},
        )
        return heads(name="head")(x)


class One(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(D, D, rngs=rngs)
        self.drop = nnx.Dropout(0.2, deterministic=True, rngs=rngs)
        self.down = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        h = nnx.tanh(self.up(x))
        h = self.drop(h)
        return self.down(h)


class Logits(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.4, deterministic=True, rngs=rngs)
        self.dense = nnx.Linear(D, 2, rngs=rngs)

    def __call__(self, x):
        h = self.drop(x)
        return self.dense(h)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.ones = nnx.vmap(One)(rngs.split(M))
        self.logits = Logits(rngs)

    def __call__(self, x):
        h = nnx.vmap(lambda one, x: one(x), in_axes=(0, None))(self.ones, x)
        h = jnp.mean(h, axis=0)
        axes = nnx.StateAxes({nnx.RngState: 0, ...: None})
        head = nnx.vmap(lambda logits, x: logits(x), in_axes=(axes, 0))
        return nnx.split_rngs(splits=B)(head)(self.logits, h)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((B, D), "float32"),),
)
