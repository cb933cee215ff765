"""bf16 attention with float32 params, norms and softmax; running statistics in a variable."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

D, H, K, T, N = 8, 2, 4, 5, 2
HALF = jnp.bfloat16


class Center(nn.Module):
    @nn.compact
    def __call__(self, x):
        running = self.variable("stats", "running", jnp.zeros, (D,))
        steps = self.variable("stats", "steps", jnp.zeros, ())
        if not self.is_initializing():
            running.value = 0.9 * running.value + 0.1 * jnp.mean(x, axis=(0, 1))
            steps.value = steps.value + 1.0
        return x - running.value / (1.0 + steps.value)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = Center(name="center")(x)
        h = nn.LayerNorm(name="norm1", dtype=jnp.float32)(h)
        qkv = nn.DenseGeneral((3, H, K), dtype=HALF, name="qkv")(h)
        q, k, v = qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :]
        s = jnp.einsum("bqhk,bmhk->bhqm", q, k).astype(jnp.float32)
        s = s * (1.0 / K) ** 0.5
        w = nn.softmax(s, axis=-1).astype(HALF)
        y = jnp.einsum("bhqm,bmhk->bqhk", w, v)
        y = nn.DenseGeneral(D, axis=(-2, -1), dtype=HALF, name="out")(y)
        x = x + y.astype(jnp.float32)
        h = nn.LayerNorm(name="norm2", dtype=jnp.float32)(x)
        h = nn.Dense(2 * D, dtype=HALF, name="up")(h)
        h = jnp.square(nn.relu(h))
        h = nn.Dense(D, dtype=HALF, name="down")(h)
        return x + h.astype(jnp.float32)


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(N):
            x = Block(name=f"block_{i}")(x)
        x = nn.LayerNorm(name="last")(x)
        return nn.Dense(3, name="head")(x)


class Stat(nnx.Variable):
    pass


class Recenter(nnx.Module):
    def __init__(self):
        self.average = Stat(jnp.zeros(D))
        self.count = Stat(jnp.zeros(()))

    def __call__(self, x):
        self.average[...] = 0.9 * self.average[...] + 0.1 * jnp.mean(x, axis=(0, 1))
        self.count[...] = self.count[...] + 1.0
        return x - self.average[...] / (1.0 + self.count[...])


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.recenter = Recenter()
        self.ln1 = nnx.LayerNorm(D, dtype=jnp.float32, rngs=rngs)
        self.project = nnx.LinearGeneral(D, (3, H, K), dtype=HALF, rngs=rngs)
        self.merge = nnx.LinearGeneral((H, K), D, axis=(-2, -1), dtype=HALF, rngs=rngs)
        self.ln2 = nnx.LayerNorm(D, dtype=jnp.float32, rngs=rngs)
        self.wide = nnx.Linear(D, 2 * D, dtype=HALF, rngs=rngs)
        self.narrow = nnx.Linear(2 * D, D, dtype=HALF, rngs=rngs)

    def __call__(self, x):
        h = self.recenter(x)
        h = self.ln1(h)
        h = self.project(h)
        query, key, value = h[..., 0, :, :], h[..., 1, :, :], h[..., 2, :, :]
        scores = jnp.einsum("bqhk,bmhk->bhqm", query, key).astype(jnp.float32)
        scores = scores * (1.0 / K) ** 0.5
        weights = nnx.softmax(scores, axis=-1).astype(HALF)
        h = jnp.einsum("bhqm,bmhk->bqhk", weights, value)
        h = self.merge(h)
        x = x + h.astype(jnp.float32)
        h = self.ln2(x)
        h = self.wide(h)
        h = jnp.square(nnx.relu(h))
        h = self.narrow(h)
        return x + h.astype(jnp.float32)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([Layer(rngs) for _ in range(N)])
        self.final = nnx.LayerNorm(D, rngs=rngs)
        self.readout = nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        x = self.final(x)
        return self.readout(x)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((2, T, D), "float32"),),
)
