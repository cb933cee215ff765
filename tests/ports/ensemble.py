"""An ensemble: members of scanned layers with weights of their own, vmapped over one input."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

D, F, C, M, N = 5, 8, 4, 3, 2


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = nn.Dense(F, name="wide")(x)
        y = nn.softplus(y)
        y = nn.Dense(F, use_bias=False, name="mix")(y)
        x = x + 0.5 * y
        return nn.RMSNorm(name="norm")(x), None


class Member(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(F, name="stem")(x))
        scan = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=N)
        x, _ = scan(name="layers")(x, None)
        return nn.Dense(C, name="head")(x)


class Ensemble(nn.Module):
    @nn.compact
    def __call__(self, x):
        members = nn.vmap(
            Member,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=0,
            axis_size=M,
        )
        y = members(name="members")(x)
        y = nn.log_softmax(y, axis=-1)
        mean = jnp.mean(y, axis=0)
        variance = jnp.var(y, axis=0)
        return mean, variance


class Step(nnx.Module):
    def __init__(self, rngs):
        self.scale = nnx.RMSNorm(F, rngs=rngs)
        self.blend = nnx.Linear(F, F, use_bias=False, rngs=rngs)
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        h = self.dense(x)
        h = nnx.softplus(h)
        h = self.blend(h)
        x = x + 0.5 * h
        return self.scale(x)


class One(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Linear(D, F, rngs=rngs)
        self.steps = nnx.vmap(Step)(rngs.split(N))
        self.logits = nnx.Linear(F, C, rngs=rngs)

    def __call__(self, x):
        h = nnx.tanh(self.embed(x))
        run = nnx.scan(lambda h, step: step(h), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        h = run(h, self.steps)
        return self.logits(h)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.ones = nnx.vmap(One)(rngs.split(M))

    def __call__(self, x):
        votes = nnx.vmap(lambda one, x: one(x), in_axes=(0, None))(self.ones, x)
        votes = nnx.log_softmax(votes, axis=-1)
        center = jnp.mean(votes, axis=0)
        spread = jnp.var(votes, axis=0)
        return center, spread


PAIR = Pair(
    linen=Ensemble(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((4, D), "float32"),),
)
