"""Pairs whose weights are named and laid out otherwise on each side."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

VOCABULARY, F, N, WIDE = 7, 4, 3, 6
TOKENS = (jax.ShapeDtypeStruct((2, 5), "int32"),)
ROWS = (jax.ShapeDtypeStruct((5, F), "float32"),)


class _Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = nn.BatchNorm(use_running_average=True, name="norm")(x)
        return x + nn.Dense(F, name="out")(nn.relu(nn.Dense(WIDE, name="wide")(y))), None


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        layers = nn.scan(
            _Layer,
            variable_axes={"params": 1, "batch_stats": 0},
            split_rngs={"params": True},
            length=N,
        )
        return layers(name="layers")(x, None)[0]


class Stacked(nn.Module):
    """A stack along axis 1, statistics along axis 0, one embedding for both ends."""

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(VOCABULARY, F, name="embed")
        return embed.attend(Decoder(name="decoder")(embed(tokens)))


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(F, use_running_average=True, rngs=rngs)
        self.wide = nnx.Linear(F, WIDE, rngs=rngs)
        self.out = nnx.Linear(WIDE, F, rngs=rngs)

    def __call__(self, x):
        return x + self.out(nnx.relu(self.wide(self.norm(x))))


class Listed(nnx.Module):
    def __init__(self, rngs):
        self.tokens = nnx.Embed(VOCABULARY, F, rngs=rngs)
        self.blocks = nnx.List([Layer(rngs) for _ in range(N)])

    def __call__(self, tokens):
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x)
        return self.tokens.attend(x)


class Apart(nn.Module):
    """Three kernels for queries, keys and values; a table and a carry in their own collections."""

    @nn.compact
    def __call__(self, x):
        scale = self.variable("tables", "waves", lambda: jnp.arange(1.0, F + 1))
        carry = self.variable("carry", "sums", lambda: (jnp.zeros(F), jnp.zeros(())))
        x = nn.LayerNorm(name="value")(x * scale.value)
        q, k, v = (nn.Dense(F, name=name)(x) for name in ("query", "key", "values"))
        sums = carry.value[0] + carry.value[1]
        return nn.Dense(WIDE, name="out")(nn.softmax(q @ k.T) @ v + sums)


class Table(nnx.Variable):
    """Is not trained."""


class Carry(nnx.Variable):
    """Two arrays."""


class Turned(nnx.Module):
    """A dense layer with its kernel as (out, in)."""

    def __init__(self, rngs):
        self.kernel = nnx.Param(nnx.initializers.normal()(rngs.params(), (WIDE, F)))
        self.bias = nnx.Param(jnp.zeros(WIDE))

    def __call__(self, x):
        return x @ self.kernel[...].T + self.bias[...]


class Fused(nnx.Module):
    """One kernel for all three; what Linen has in collections is of classes of variables."""

    def __init__(self, rngs):
        self.waves = Table(jnp.arange(1.0, F + 1))
        self.carry = Carry((jnp.zeros(F), jnp.zeros(())))
        self.value = nnx.LayerNorm(F, rngs=rngs)
        self.qkv = nnx.Linear(F, 3 * F, rngs=rngs)
        self.mix = Turned(rngs)

    def __call__(self, x):
        q, k, v = jnp.split(self.qkv(self.value(x * self.waves[...])), 3, axis=-1)
        first, second = self.carry.get_value()
        mixed = nnx.softmax(q @ k.T) @ v + (first + second)
        return self.mix(mixed)


STACK = Pair(Stacked(), Listed, TOKENS)
FUSED = Pair(Apart(), Fused, ROWS)
