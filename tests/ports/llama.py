"""A rotary decoder with grouped queries: Linen scans remat blocks on axis 1, NNX scans axis 0."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

V, D, H, G, K, F, T, N = 13, 8, 4, 2, 4, 12, 5, 3


def rotate(x):
    rates = 10000.0 ** (-jnp.arange(K // 2) / (K // 2))
    angles = jnp.arange(T)[:, None] * rates
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


class RMSNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (D,))
        variance = jnp.mean(x**2, axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(variance + 1e-5) * scale


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        init = nn.initializers.normal(0.3)
        y = RMSNorm(name="attention_norm")(x)
        q = jnp.einsum("btd,dhk->bthk", y, self.param("query", init, (D, H, K)))
        k = jnp.einsum("btd,dgk->btgk", y, self.param("key", init, (D, G, K)))
        v = jnp.einsum("btd,dgk->btgk", y, self.param("value", init, (D, G, K)))
        q, k = rotate(q), rotate(k)
        k = jnp.repeat(k, H // G, axis=2)
        v = jnp.repeat(v, H // G, axis=2)
        s = jnp.einsum("bthk,bmhk->bhtm", q, k) * K**-0.5
        s = jnp.where(jnp.tril(jnp.ones((T, T), bool)), s, -1e30)
        y = jnp.einsum("bhtm,bmhk->bthk", nn.softmax(s), v)
        x = x + jnp.einsum("bthk,hkd->btd", y, self.param("out", init, (H, K, D)))
        y = RMSNorm(name="mlp_norm")(x)
        y = nn.silu(nn.Dense(F, False, name="gate")(y)) * nn.Dense(F, False, name="up")(y)
        return x + nn.Dense(D, False, name="down")(y), None


class Llama(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(V, D)(tokens)
        scan = nn.scan(
            nn.remat(Block), variable_axes={"params": 1}, split_rngs={"params": True}, length=N
        )
        x, _ = scan()(x, None)
        x = RMSNorm()(x)
        return nn.Dense(V, use_bias=False)(x)


def rope(x):
    frequency = 10000.0 ** (-jnp.arange(K // 2) / (K // 2))
    phase = jnp.arange(T)[:, None] * frequency
    cosine, sine = jnp.cos(phase)[:, None], jnp.sin(phase)[:, None]
    first, second = x[..., : K // 2], x[..., K // 2 :]
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


class Norm(nnx.Module):
    def __init__(self):
        self.weight = nnx.Param(jnp.ones(D))

    def __call__(self, x):
        square = jnp.mean(jnp.square(x), -1, keepdims=True)
        return x * jax.lax.rsqrt(square + 1e-5) * self.weight


class Layer(nnx.Module):
    def __init__(self, rngs):
        init = nnx.initializers.normal(0.3)
        self.norm1, self.norm2 = Norm(), Norm()
        self.q_proj = nnx.Param(init(rngs.params(), (D, H, K)))
        self.k_proj = nnx.Param(init(rngs.params(), (D, G, K)))
        self.v_proj = nnx.Param(init(rngs.params(), (D, G, K)))
        self.o_proj = nnx.Param(init(rngs.params(), (H, K, D)))
        self.gate_proj = nnx.Linear(D, F, use_bias=False, rngs=rngs)
        self.up_proj = nnx.Linear(D, F, use_bias=False, rngs=rngs)
        self.down_proj = nnx.Linear(F, D, use_bias=False, rngs=rngs)

    def __call__(self, x):
        h = self.norm1(x)
        queries = jnp.einsum("btd,dhk->bthk", h, self.q_proj[...])
        keys = jnp.einsum("btd,dgk->btgk", h, self.k_proj[...])
        values = jnp.einsum("btd,dgk->btgk", h, self.v_proj[...])
        queries = rope(queries)
        keys = rope(keys)
        keys = jnp.repeat(keys, H // G, axis=2)
        values = jnp.repeat(values, H // G, axis=2)
        scores = jnp.einsum("bthk,bmhk->bhtm", queries, keys) * K**-0.5
        scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -1e30)
        weights = nnx.softmax(scores, axis=-1)
        mixed = jnp.einsum("bhtm,bmhk->bthk", weights, values)
        x = x + jnp.einsum("bthk,hkd->btd", mixed, self.o_proj[...])
        h = self.norm2(x)
        h = nnx.silu(self.gate_proj(h)) * self.up_proj(h)
        return x + self.down_proj(h)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.wte = nnx.Embed(V, D, rngs=rngs)
        self.stack = nnx.vmap(Layer)(rngs.split(N))
        self.final = Norm()
        self.lm_head = nnx.Linear(D, V, use_bias=False, rngs=rngs)

    def __call__(self, tokens):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(h, layer):
            return layer(h)

        h = self.wte(tokens)
        h = run(h, self.stack)
        h = self.final(h)
        return self.lm_head(h)


PAIR = Pair(
    linen=Llama(),
    nnx=lambda rngs: Port(rngs),
    inputs=lambda key: (jax.random.randint(key, (2, T), 0, V),),
)
