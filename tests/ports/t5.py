"""An encoder-decoder with a shared table of relative positions and tied embeddings."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

V, D, H, K, T, N = 11, 8, 2, 4, 6, 2


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x, memory, bias):
        q = nn.DenseGeneral((H, K), use_bias=False, name="q")(x)
        k = nn.DenseGeneral((H, K), use_bias=False, name="k")(memory)
        v = nn.DenseGeneral((H, K), use_bias=False, name="v")(memory)
        s = jnp.einsum("bqhk,bmhk->bhqm", q, k) + bias
        w = nn.softmax(s, axis=-1)
        y = jnp.einsum("bhqm,bmhk->bqhk", w, v)
        return nn.DenseGeneral(D, axis=(-2, -1), use_bias=False, name="o")(y)


class Block(nn.Module):
    cross: bool = False

    @nn.compact
    def __call__(self, x, bias, memory=None):
        drop = nn.Dropout(0.1, deterministic=True)
        y = nn.RMSNorm(name="norm_self")(x)
        x = x + drop(Attention(name="self_attention")(y, y, bias))
        if self.cross:
            y = nn.RMSNorm(name="norm_cross")(x)
            x = x + drop(Attention(name="cross_attention")(y, memory, 0.0))
        y = nn.RMSNorm(name="norm_mlp")(x)
        y = nn.relu(nn.Dense(2 * D, use_bias=False, name="wi")(y))
        return x + drop(nn.Dense(D, use_bias=False, name="wo")(y))


class T5(nn.Module):
    @nn.compact
    def __call__(self, source, target):
        embed = nn.Embed(V, D)
        far = jnp.arange(T)[None, :] - jnp.arange(T)[:, None]
        both = nn.Embed(2 * T - 1, H, name="encoder_bias")(far + T - 1)
        past = nn.Embed(T, H, name="decoder_bias")(jnp.maximum(-far, 0))
        past = jnp.where((far <= 0)[..., None], past, -1e9)
        x = embed(source)
        for i in range(N):
            x = Block(name=f"encoder_{i}")(x, both.transpose(2, 0, 1))
        memory = nn.RMSNorm(name="encoder_norm")(x)
        x = embed(target)
        for i in range(N):
            x = Block(cross=True, name=f"decoder_{i}")(x, past.transpose(2, 0, 1), memory)
        x = nn.RMSNorm(name="decoder_norm")(x)
        return embed.attend(x * D**-0.5)


class Attend(nnx.Module):
    def __init__(self, rngs):
        self.query = nnx.LinearGeneral(D, (H, K), use_bias=False, rngs=rngs)
        self.key = nnx.LinearGeneral(D, (H, K), use_bias=False, rngs=rngs)
        self.value = nnx.LinearGeneral(D, (H, K), use_bias=False, rngs=rngs)
        self.out = nnx.LinearGeneral((H, K), D, axis=(-2, -1), use_bias=False, rngs=rngs)

    def __call__(self, x, context, bias):
        query, key, value = self.query(x), self.key(context), self.value(context)
        scores = jnp.einsum("bqhk,bmhk->bhqm", query, key) + bias
        weights = nnx.softmax(scores, axis=-1)
        mixed = jnp.einsum("bhqm,bmhk->bqhk", weights, value)
        return self.out(mixed)


class Layer(nnx.Module):
    def __init__(self, rngs, cross=False):
        self.attend = Attend(rngs)
        self.attend_norm = nnx.RMSNorm(D, rngs=rngs)
        self.look = Attend(rngs) if cross else None
        self.look_norm = nnx.RMSNorm(D, rngs=rngs) if cross else None
        self.up = nnx.Linear(D, 2 * D, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(2 * D, D, use_bias=False, rngs=rngs)
        self.mlp_norm = nnx.RMSNorm(D, rngs=rngs)
        self.drop = nnx.Dropout(0.1, deterministic=True, rngs=rngs)

    def __call__(self, x, bias, encoded=None):
        h = self.attend_norm(x)
        x = x + self.drop(self.attend(h, h, bias))
        if self.look is not None:
            h = self.look_norm(x)
            x = x + self.drop(self.look(h, encoded, 0.0))
        h = self.mlp_norm(x)
        h = nnx.relu(self.up(h))
        return x + self.drop(self.down(h))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.tokens = nnx.Embed(V, D, rngs=rngs)
        self.encoder = nnx.List([Layer(rngs) for _ in range(N)])
        self.decoder = nnx.List([Layer(rngs, cross=True) for _ in range(N)])
        self.encoder_table = nnx.Embed(2 * T - 1, H, rngs=rngs)
        self.decoder_table = nnx.Embed(T, H, rngs=rngs)
        self.encoder_last = nnx.RMSNorm(D, rngs=rngs)
        self.decoder_last = nnx.RMSNorm(D, rngs=rngs)

    def __call__(self, source, target):
        away = jnp.arange(T)[None, :] - jnp.arange(T)[:, None]
        wide = self.encoder_table(away + T - 1)
        wide = wide.transpose(2, 0, 1)
        h = self.tokens(source)
        for layer in self.encoder:
            h = layer(h, wide)
        encoded = self.encoder_last(h)
        causal = self.decoder_table(jnp.maximum(-away, 0))
        causal = jnp.where((away <= 0)[..., None], causal, -1e9)
        causal = causal.transpose(2, 0, 1)
        h = self.tokens(target)
        for layer in self.decoder:
            h = layer(h, causal, encoded)
        h = self.decoder_last(h)
        return self.tokens.attend(h * D**-0.5)


PAIR = Pair(
    linen=T5(),
    nnx=lambda rngs: Port(rngs),
    inputs=lambda key: tuple(jax.random.randint(key, (2, 2, T), 0, V)),
)
