"""Weights that one side keeps apart and the other has in one: by hand, and in Flax's own cells."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

F, T, N = 4, 5, 3


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        q, k, v = (nn.Dense(F, name=name)(x) for name in ("query", "key", "value"))
        weights = nn.softmax(q @ k.T)
        return x + weights @ v, None


class FusedAttention(nnx.Module):
    def __init__(self, rngs):
        self.qkv = nnx.Linear(F, 3 * F, rngs=rngs)

    def __call__(self, x):
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        weights = nnx.softmax(q @ k.T)
        return x + weights @ v


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            Attention, variable_axes={"params": 0}, split_rngs={"params": True}, length=N
        )
        return scan()(x, None)[0]


class FusedList(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([FusedAttention(rngs) for _ in range(N)])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Recurrent(nn.Module):
    cell: nn.Module

    @nn.compact
    def __call__(self, x):
        return nn.RNN(self.cell)(x)


class PortedRecurrent(nnx.Module):
    def __init__(self, cell, rngs):
        self.rnn = nnx.RNN(cell, rngs=rngs)

    def __call__(self, x):
        return self.rnn(x)


class GRU(nnx.RNNCellBase):
    """A port of Linen's cell, which has a bias that NNX's own cell has not."""

    def __init__(self, rngs):
        self.x = nnx.Linear(F, 3 * F, rngs=rngs)
        self.h = nnx.Linear(F, 2 * F, use_bias=False, rngs=rngs)
        self.n = nnx.Linear(F, F, rngs=rngs)

    @property
    def num_feature_axes(self):
        return 1

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros((*input_shape[:-1], F))

    def __call__(self, h, x):
        x_r, x_z, x_n = jnp.split(self.x(x), 3, axis=-1)
        h_r, h_z = jnp.split(self.h(h), 2, axis=-1)
        r, z = nnx.sigmoid(x_r + h_r), nnx.sigmoid(x_z + h_z)
        n = nnx.tanh(x_n + r * self.n(h))
        h = (1.0 - z) * n + z * h
        return h, h


ROWS = (jax.ShapeDtypeStruct((T, F), "float32"),)
SEQUENCES = (jax.ShapeDtypeStruct((2, T, F), "float32"),)


class OneAttention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Attention(name="attention")(x)[0]


def attention(**weight_map):
    return Pair(OneAttention(), lambda rngs: FusedAttention(rngs), ROWS, weight_map=weight_map)


def stack(**weight_map):
    return Pair(Stack(), lambda rngs: FusedList(rngs), ROWS, weight_map=weight_map)


def recurrent(cell, port, **weight_map):
    return Pair(
        Recurrent(cell),
        lambda rngs: PortedRecurrent(port(rngs), rngs),
        SEQUENCES,
        weight_map=weight_map,
    )


LSTM = recurrent(nn.OptimizedLSTMCell(F), lambda rngs: nnx.OptimizedLSTMCell(F, F, rngs=rngs))
PLAIN_LSTM = recurrent(nn.LSTMCell(F), lambda rngs: nnx.LSTMCell(F, F, rngs=rngs))
STOCK_GRU = recurrent(nn.GRUCell(F), lambda rngs: nnx.GRUCell(F, F, rngs=rngs))
