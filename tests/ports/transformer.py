"""A pre-norm language model; Linen scans its blocks, NNX keeps a list of them."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

V, D, H, K, T, N = 19, 12, 3, 4, 7, 3


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        h = nn.LayerNorm()(x)
        q = nn.DenseGeneral((H, K), use_bias=False, name="query")(h)
        k = nn.DenseGeneral((H, K), use_bias=False, name="key")(h)
        v = nn.DenseGeneral((H, K), use_bias=False, name="value")(h)
        s = jnp.einsum("bqhk,bmhk->bhqm", q, k) / jnp.sqrt(1.0 * K)
        s = jnp.where(jnp.tril(jnp.ones((T, T), bool)), s, -1e9)
        w = jax.nn.softmax(s, axis=-1)
        o = jnp.einsum("bhqm,bmhk->bqhk", w, v)
        x = x + nn.DenseGeneral(D, axis=(-2, -1), name="out")(o)
        h = nn.LayerNorm()(x)
        h = nn.Dense(4 * D, name="up")(h)
        h = nn.gelu(h)
        x = x + nn.Dense(D, name="down")(h)
        return x, None


class LM(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(V, D)
        positions = jnp.arange(T)
        x = embed(tokens) + nn.Embed(T + 1, D)(positions)
        scan = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=N)
        x, _ = scan()(x, None)
        x = nn.LayerNorm()(x)
        return embed.attend(x)


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.pre = nnx.LayerNorm(D, rngs=rngs)
        self.value = nnx.LinearGeneral(D, (H, K), use_bias=False, rngs=rngs)
        self.key = nnx.LinearGeneral(D, (H, K), use_bias=False, rngs=rngs)
        self.query = nnx.LinearGeneral(D, (H, K), use_bias=False, rngs=rngs)
        self.out = nnx.LinearGeneral((H, K), D, axis=(-2, -1), rngs=rngs)
        self.post = nnx.LayerNorm(D, rngs=rngs)
        self.up = nnx.Linear(D, 4 * D, rngs=rngs)
        self.down = nnx.Linear(4 * D, D, rngs=rngs)

    def __call__(self, x):
        h = self.pre(x)
        v = self.value(h)
        k = self.key(h)
        q = self.query(h)
        scores = jnp.einsum("bqhk,bmhk->bhqm", q, k) / jnp.sqrt(1.0 * K)
        scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -1e9)
        weights = jax.nn.softmax(scores, axis=-1)
        mixed = jnp.einsum("bhqm,bmhk->bqhk", weights, v)
        x = x + self.out(mixed)
        h = self.post(x)
        h = self.up(h)
        h = nnx.gelu(h)
        x = x + self.down(h)
        return x


class Port(nnx.Module):
    def __init__(self, rngs):
        self.tok = nnx.Embed(V, D, rngs=rngs)
        self.pos = nnx.Embed(T + 1, D, rngs=rngs)
        self.layers = nnx.List([Layer(rngs) for _ in range(N)])
        self.final = nnx.LayerNorm(D, rngs=rngs)

    def __call__(self, tokens):
        positions = jnp.arange(T)
        x = self.tok(tokens) + self.pos(positions)
        for layer in self.layers:
            x = layer(x)
        x = self.final(x)
        return self.tok.attend(x)


PAIR = Pair(
    linen=LM(),
    nnx=lambda rngs: Port(rngs),
    inputs=lambda key: (jax.random.randint(key, (2, T), 0, V),),
)
