"""A codebook that training moves, and weights that an adapter of low rank is added to."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

B, D, K, R = 6, 4, 5, 2


class Adapted(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        y = nn.Dense(D, name="dense")(x)
        a = self.param("lora_a", nn.initializers.he_uniform(), (D, R))
        b = self.param("lora_b", nn.initializers.zeros, (R, D))
        x = nn.Dropout(0.1)(x, deterministic=not train)
        return y + (x @ a) @ b * 2.0


class Model(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = Adapted(name="adapted")(x, train)
        unit = nn.initializers.uniform(1.0)
        codes = self.variable("codebook", "codes", lambda: unit(self.make_rng("params"), (K, D)))
        counts = self.variable("codebook", "counts", lambda: jnp.ones((K,)))
        far = jnp.sum((x[:, None] - codes.value) ** 2, axis=-1)
        near = jax.nn.one_hot(jnp.argmin(far, axis=-1), K)
        y = near @ codes.value
        if train and not self.is_initializing():
            counts.value = 0.99 * counts.value + 0.01 * jnp.sum(near, axis=0)
            moved = near.T @ x / (counts.value[:, None] + 1e-3)
            codes.value = 0.9 * codes.value + 0.1 * jax.lax.stop_gradient(moved)
        commitment = jnp.mean((x - jax.lax.stop_gradient(y)) ** 2)
        y = x + jax.lax.stop_gradient(y - x)
        if train:
            commitment = 0.25 * commitment
        return nn.Dense(3, name="head")(y), commitment


class Codebook(nnx.Variable):
    pass


class Adapter(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(D, D, rngs=rngs)
        self.down = nnx.Param(nnx.initializers.he_uniform()(rngs.params(), (D, R)))
        self.up = nnx.Param(jnp.zeros((R, D)))
        self.drop = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x, train):
        h = self.dense(x)
        x = self.drop(x, deterministic=not train)
        return h + (x @ self.down[...]) @ self.up[...] * 2.0


class Port(nnx.Module):
    def __init__(self, rngs):
        self.adapter = Adapter(rngs)
        self.codes = Codebook(nnx.initializers.uniform(1.0)(rngs.params(), (K, D)))
        self.counts = Codebook(jnp.ones((K,)))
        self.last = nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x, train=False):
        x = self.adapter(x, train)
        away = jnp.sum((x[:, None] - self.codes[...]) ** 2, axis=-1)
        chosen = jax.nn.one_hot(jnp.argmin(away, axis=-1), K)
        z = chosen @ self.codes[...]
        if train:
            self.counts[...] = 0.99 * self.counts[...] + 0.01 * jnp.sum(chosen, axis=0)
            mean = chosen.T @ x / (self.counts[...][:, None] + 1e-3)
            self.codes[...] = 0.9 * self.codes[...] + 0.1 * jax.lax.stop_gradient(mean)
        loss = jnp.mean((x - jax.lax.stop_gradient(z)) ** 2)
        z = x + jax.lax.stop_gradient(z - x)
        if train:
            loss = 0.25 * loss
        return self.last(z), loss


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((B, D), "float32"),),
)
