"""A transformer that drops embeddings, attention and residuals; the flag is handed down."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

V, T, D, H, K, N = 11, 6, 8, 2, 4, 2


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
        y = nn.LayerNorm()(x)
        q = nn.DenseGeneral((H, K), name="q")(y)
        k = nn.DenseGeneral((H, K), name="k")(y)
        v = nn.DenseGeneral((H, K), name="v")(y)
        w = nn.softmax(jnp.einsum("bqhk,bmhk->bhqm", q, k) * K**-0.5)
        w = nn.Dropout(0.1)(w, deterministic=deterministic)
        y = jnp.einsum("bhqm,bmhk->bqhk", w, v)
        y = nn.DenseGeneral(D, axis=(-2, -1), name="out")(y)
        y = nn.Dropout(0.2, broadcast_dims=(1,))(y, deterministic=deterministic)
        x = x + y
        y = nn.LayerNorm()(x)
        y = nn.Dense(2 * D, name="up")(y)
        y = nn.tanh(y)
        y = nn.Dropout(0.3)(y, deterministic=deterministic)
        y = nn.Dense(D, name="down")(y)
        y = nn.Dropout(0.2, broadcast_dims=(1,), name="last")(y, deterministic=deterministic)
        return x + y


class Model(nn.Module):
    @nn.compact
    def __call__(self, tokens, deterministic=True):
        x = nn.Embed(V, D)(tokens)
        x = x + self.param("position", nn.initializers.normal(0.02), (T, D))
        x = nn.Dropout(0.1)(x, deterministic=deterministic)
        for i in range(N):
            x = Block(name=f"block_{i}")(x, deterministic)
        x = nn.LayerNorm(name="norm")(x)
        return nn.Dense(V, name="head")(x)


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.norm1 = nnx.LayerNorm(D, rngs=rngs)
        self.query = nnx.LinearGeneral(D, (H, K), rngs=rngs)
        self.key = nnx.LinearGeneral(D, (H, K), rngs=rngs)
        self.value = nnx.LinearGeneral(D, (H, K), rngs=rngs)
        self.attn_drop = nnx.Dropout(0.1, rngs=rngs)
        self.mix = nnx.LinearGeneral((H, K), D, axis=(-2, -1), rngs=rngs)
        self.mix_drop = nnx.Dropout(0.2, broadcast_dims=(1,), rngs=rngs)
        self.norm2 = nnx.LayerNorm(D, rngs=rngs)
        self.wide = nnx.Linear(D, 2 * D, rngs=rngs)
        self.wide_drop = nnx.Dropout(0.3, rngs=rngs)
        self.narrow = nnx.Linear(2 * D, D, rngs=rngs)
        self.narrow_drop = nnx.Dropout(0.2, broadcast_dims=(1,), rngs=rngs)

    def __call__(self, x, off):
        h = self.norm1(x)
        query, key, value = self.query(h), self.key(h), self.value(h)
        weights = nnx.softmax(jnp.einsum("bqhk,bmhk->bhqm", query, key) * K**-0.5)
        weights = self.attn_drop(weights, deterministic=off)
        h = jnp.einsum("bhqm,bmhk->bqhk", weights, value)
        h = self.mix(h)
        h = self.mix_drop(h, deterministic=off)
        x = x + h
        h = self.norm2(x)
        h = self.wide(h)
        h = nnx.tanh(h)
        h = self.wide_drop(h, deterministic=off)
        h = self.narrow(h)
        h = self.narrow_drop(h, deterministic=off)
        return x + h


class Port(nnx.Module):
    def __init__(self, rngs):
        self.tokens = nnx.Embed(V, D, rngs=rngs)
        self.places = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (T, D)))
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.layers = nnx.List([Layer(rngs) for _ in range(N)])
        self.norm = nnx.LayerNorm(D, rngs=rngs)
        self.logits = nnx.Linear(D, V, rngs=rngs)

    def __call__(self, tokens, deterministic=True):
        h = self.tokens(tokens)
        h = h + self.places[...]
        h = self.drop(h, deterministic=deterministic)
        for layer in self.layers:
            h = layer(h, deterministic)
        h = self.norm(h)
        return self.logits(h)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=lambda key: (jax.random.randint(key, (2, T), 0, V),),
    linen_kwargs={"deterministic": True},
    nnx_kwargs={"deterministic": True},
    linen_train_kwargs={"deterministic": False},
    nnx_train_kwargs={"deterministic": False},
)
