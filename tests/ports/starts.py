"""Initialisers of many kinds, a table of waves, and a state-space layer that starts by hand."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

V, T, D, F = 11, 6, 8, 12
init = nn.initializers


def rates(key, shape):
    step = jnp.exp(jax.random.uniform(key, shape, minval=jnp.log(1e-3), maxval=jnp.log(1e-1)))
    return step + jnp.log(-jnp.expm1(-step))


class Model(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(V, D, embedding_init=init.normal(0.02))(tokens)
        waves = self.variable("tables", "waves", lambda: 10000.0 ** (-jnp.arange(0, D) / D))
        x = x + jnp.sin(jnp.arange(T)[:, None] * waves.value)
        x = nn.LayerNorm(name="before")(x)
        y = nn.Dense(F, kernel_init=init.xavier_uniform(), bias_init=init.normal(1e-3))(x)
        y = nn.gelu(y)
        y = nn.Dense(D, kernel_init=init.variance_scaling(2.0, "fan_out", "normal"))(y)
        x = x + self.param("gamma", init.constant(1e-2), (D,)) * y
        decay = self.param("decay", lambda key, shape: jnp.log(1.0 + jnp.arange(D)), (D,))
        step = nn.softplus(self.param("step", rates, (D,)))
        x = x * jnp.exp(-step * jnp.exp(decay))
        x = nn.Conv(D, (3,), kernel_init=init.truncated_normal(0.05))(x)
        x = nn.Dense(D, use_bias=False, kernel_init=init.orthogonal(), name="turn")(x)
        x = nn.RMSNorm(name="after")(x)
        return nn.Dense(V, kernel_init=init.zeros, bias_init=init.constant(-4.0), name="head")(x)


class Table(nnx.Variable):
    pass


def by_hand(key, shape):
    dt = jnp.exp(jax.random.uniform(key, shape, minval=jnp.log(1e-3), maxval=jnp.log(1e-1)))
    return dt + jnp.log(-jnp.expm1(-dt))


class Port(nnx.Module):
    def __init__(self, rngs):
        uniform, short = init.xavier_uniform(), init.truncated_normal(0.05)
        wide = init.variance_scaling(2.0, "fan_out", "normal")
        self.tokens = nnx.Embed(V, D, embedding_init=init.normal(0.02), rngs=rngs)
        self.waves = Table(10000.0 ** (-jnp.arange(0, D) / D))
        self.norm = nnx.LayerNorm(D, rngs=rngs)
        self.wide = nnx.Linear(D, F, kernel_init=uniform, bias_init=init.normal(1e-3), rngs=rngs)
        self.narrow = nnx.Linear(F, D, kernel_init=wide, rngs=rngs)
        self.scale = nnx.Param(jnp.full((D,), 1e-2))
        self.log_a = nnx.Param(jnp.log(1.0 + jnp.arange(D)))
        self.delta = nnx.Param(by_hand(rngs.params(), (D,)))
        self.conv = nnx.Conv(D, D, (3,), kernel_init=short, rngs=rngs)
        self.turn = nnx.Linear(D, D, use_bias=False, kernel_init=init.orthogonal(), rngs=rngs)
        self.last = nnx.RMSNorm(D, rngs=rngs)
        rare = init.constant(-4.0)
        self.head = nnx.Linear(D, V, kernel_init=init.zeros, bias_init=rare, rngs=rngs)

    def __call__(self, tokens):
        h = self.tokens(tokens)
        h = h + jnp.sin(jnp.arange(T)[:, None] * self.waves[...])
        h = self.norm(h)
        y = self.wide(h)
        y = nnx.gelu(y)
        y = self.narrow(y)
        h = h + self.scale[...] * y
        h = h * jnp.exp(-nnx.softplus(self.delta[...]) * jnp.exp(self.log_a[...]))
        h = self.conv(h)
        h = self.turn(h)
        h = self.last(h)
        return self.head(h)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=lambda key: (jax.random.randint(key, (2, T), 0, V),),
)
