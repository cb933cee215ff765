"""An LSTM and a hand-written gated cell over time: `nn.scan` on axis 1, `lax.scan` on axis 0."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

V, D, F, T = 9, 4, 6, 5


class Gated(nn.Module):
    @nn.compact
    def __call__(self, h, x):
        both = jnp.concatenate([x, h], axis=-1)
        gates = nn.sigmoid(nn.Dense(2 * F, name="gates")(both))
        reset, update = jnp.split(gates, 2, axis=-1)
        both = jnp.concatenate([x, reset * h], axis=-1)
        new = nn.tanh(nn.Dense(F, name="candidate")(both))
        h = (1.0 - update) * h + update * new
        return h, h


class Model(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(V, D)(tokens)
        x = nn.RNN(nn.OptimizedLSTMCell(F))(x)
        scan = nn.scan(
            Gated,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        start = jnp.zeros((x.shape[0], F))
        _, y = scan(name="gated")(start, x)
        last = y[:, -1]
        return nn.Dense(3)(last)


class Cell(nnx.Module):
    def __init__(self, rngs):
        self.propose = nnx.Linear(2 * F, F, rngs=rngs)
        self.decide = nnx.Linear(2 * F, 2 * F, rngs=rngs)

    def __call__(self, state, x):
        joined = jnp.concatenate([x, state], axis=-1)
        gates = nnx.sigmoid(self.decide(joined))
        r, z = jnp.split(gates, 2, axis=-1)
        joined = jnp.concatenate([x, r * state], axis=-1)
        proposed = nnx.tanh(self.propose(joined))
        state = (1.0 - z) * state + z * proposed
        return state, state


class Port(nnx.Module):
    def __init__(self, rngs):
        self.table = nnx.Embed(V, D, rngs=rngs)
        self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(D, F, rngs=rngs), rngs=rngs)
        self.cell = Cell(rngs)
        self.head = nnx.Linear(F, 3, rngs=rngs)

    def __call__(self, tokens):
        x = self.table(tokens)
        x = self.lstm(x)
        x = jnp.moveaxis(x, 1, 0)
        zeros = jnp.zeros((x.shape[1], F))
        _, states = jax.lax.scan(self.cell, zeros, x)
        final = states[-1]
        return self.head(final)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=lambda key: (jax.random.randint(key, (2, T), 0, V),),
)
