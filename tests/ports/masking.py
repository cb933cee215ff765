"""Inputs that are masked at random: patches that are left out, tokens that are replaced."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

B, T, D, V, KEPT = 3, 8, 6, 13, 3


class Model(nn.Module):
    @nn.compact
    def __call__(self, patches, tokens):
        noise = jax.random.uniform(self.make_rng("mask"), (B, T))
        order = jnp.argsort(noise, axis=1)[:, :KEPT]
        seen = jnp.take_along_axis(nn.Dense(D, name="patch")(patches), order[..., None], axis=1)
        chance = jax.random.uniform(self.make_rng("chance"), (B, T))
        other = jax.random.randint(self.make_rng("other"), (B, T), 0, V)
        words = jnp.where(chance < 0.12, V, tokens)
        words = jnp.where((chance >= 0.12) & (chance < 0.135), other, words)
        words = nn.Embed(V + 1, D, name="words")(words)
        x = jnp.concatenate([seen, words], axis=1)
        x = nn.tanh(nn.Dense(D, name="mix")(x))
        weight = jnp.where(chance < 0.15, 1.0, 0.0)
        return nn.Dense(V, name="head")(x), order, weight


class Port(nnx.Module):
    def __init__(self, rngs):
        self.patch = nnx.Linear(D, D, rngs=rngs)
        self.words = nnx.Embed(V + 1, D, rngs=rngs)
        self.mix = nnx.Linear(D, D, rngs=rngs)
        self.head = nnx.Linear(D, V, rngs=rngs)
        self.rngs = rngs.fork()

    def __call__(self, patches, tokens):
        rank = jax.random.uniform(self.rngs.mask(), (B, T))
        order = jnp.argsort(rank, axis=1)[:, :KEPT]
        left = jnp.take_along_axis(self.patch(patches), order[..., None], axis=1)
        luck = jax.random.uniform(self.rngs.chance(), (B, T))
        wrong = jax.random.randint(self.rngs.other(), (B, T), 0, V)
        w = jnp.where(luck < 0.12, V, tokens)
        w = jnp.where((luck >= 0.12) & (luck < 0.135), wrong, w)
        w = self.words(w)
        h = jnp.concatenate([left, w], axis=1)
        h = nnx.tanh(self.mix(h))
        asked = jnp.where(luck < 0.15, 1.0, 0.0)
        return self.head(h), order, asked


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=lambda key: (
        jax.random.normal(key, (B, T, D)),
        jax.random.randint(key, (B, T), 0, V),
    ),
)
