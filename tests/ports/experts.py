"""A mixture of experts: two of four are weighed by a gate; experts are vmapped on both sides."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

D, F, E, T = 8, 12, 4, 5


class Expert(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(F)(x)
        y = nn.silu(y)
        return nn.Dense(D)(y)


class Mixture(nn.Module):
    @nn.compact
    def __call__(self, x):
        gate = nn.Dense(E, use_bias=False, name="router")(x)
        gate = nn.softmax(gate, axis=-1)
        least = jax.lax.top_k(gate, 2)[0][..., -1:]
        gate = jnp.where(gate >= least, gate, 0.0)
        gate = gate / jnp.sum(gate, axis=-1, keepdims=True)
        experts = nn.vmap(
            Expert,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=0,
            axis_size=E,
        )
        y = experts(name="experts")(x)
        return jnp.einsum("ebtd,bte->btd", y, gate)


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        y = Mixture()(y)
        x = x + 0.5 * y
        x = nn.LayerNorm()(x)
        return nn.Dense(3)(x)


class FeedForward(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(D, F, rngs=rngs)
        self.down = nnx.Linear(F, D, rngs=rngs)

    def __call__(self, x):
        h = self.up(x)
        h = nnx.silu(h)
        return self.down(h)


class Sparse(nnx.Module):
    def __init__(self, rngs):
        self.choose = nnx.Linear(D, E, use_bias=False, rngs=rngs)
        self.pool = nnx.vmap(FeedForward)(rngs.split(E))

    def __call__(self, x):
        weights = self.choose(x)
        weights = nnx.softmax(weights, axis=-1)
        lowest = jax.lax.top_k(weights, 2)[0][..., -1:]
        weights = jnp.where(weights >= lowest, weights, 0.0)
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
        each = nnx.vmap(lambda expert, h: expert(h), in_axes=(0, None))
        outputs = each(self.pool, x)
        return jnp.einsum("ebtd,bte->btd", outputs, weights)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.pre = nnx.LayerNorm(D, rngs=rngs)
        self.sparse = Sparse(rngs)
        self.post = nnx.LayerNorm(D, rngs=rngs)
        self.readout = nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x):
        h = self.pre(x)
        h = self.sparse(h)
        x = x + 0.5 * h
        x = self.post(x)
        return self.readout(x)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((2, T, D), "float32"),),
)
