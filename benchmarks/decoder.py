"""A decoder of any size in Linen and in NNX, its layers scanned or in a loop. No weight is made."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair


def decoder_pair(num_layers, dim, hidden, heads, vocab, linen_scan, nnx_scan, seq_len=16):
    """A pair of decoders: tokens (1, T) -> logits (1, T, vocab)."""
    head_dim = dim // heads

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _=None):
            h = nn.RMSNorm()(x)
            q, k, v = (
                nn.DenseGeneral((heads, head_dim), use_bias=False, name=name)(h)
                for name in ("query", "key", "value")
            )
            o = attend(q, k, v)
            x = x + nn.DenseGeneral(dim, axis=(-2, -1), use_bias=False, name="out")(o)
            h = nn.RMSNorm()(x)
            gate = nn.silu(nn.Dense(hidden, use_bias=False, name="gate")(h))
            up = nn.Dense(hidden, use_bias=False, name="up")(h)
            return x + nn.Dense(dim, use_bias=False, name="down")(gate * up), None

    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(vocab, dim)(tokens)
            if linen_scan:
                axes, rngs = {"params": 0}, {"params": True}
                stack = nn.scan(Block, variable_axes=axes, split_rngs=rngs, length=num_layers)
                x, _ = stack()(x, None)
            else:
                for _ in range(num_layers):
                    x, _ = Block()(x)
            return nn.Dense(vocab, use_bias=False)(nn.RMSNorm()(x))

    class Layer(nnx.Module):
        def __init__(self, rngs):
            def project():
                return nnx.LinearGeneral(dim, (heads, head_dim), use_bias=False, rngs=rngs)

            self.pre, self.post = (nnx.RMSNorm(dim, rngs=rngs) for _ in range(2))
            self.query, self.key, self.value = project(), project(), project()
            self.out = nnx.LinearGeneral(
                (heads, head_dim), dim, axis=(-2, -1), use_bias=False, rngs=rngs
            )
            self.gate = nnx.Linear(dim, hidden, use_bias=False, rngs=rngs)
            self.up = nnx.Linear(dim, hidden, use_bias=False, rngs=rngs)
            self.down = nnx.Linear(hidden, dim, use_bias=False, rngs=rngs)

        def __call__(self, x):
            h = self.pre(x)
            x = x + self.out(attend(self.query(h), self.key(h), self.value(h)))
            h = self.post(x)
            return x + self.down(nnx.silu(self.gate(h)) * self.up(h))

    class Port(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(vocab, dim, rngs=rngs)
            if nnx_scan:
                self.layers = nnx.vmap(Layer)(rngs.split(num_layers))
            else:
                self.layers = nnx.List([Layer(rngs) for _ in range(num_layers)])
            self.norm = nnx.RMSNorm(dim, rngs=rngs)
            self.head = nnx.Linear(dim, vocab, use_bias=False, rngs=rngs)

        def __call__(self, tokens):
            x = self.embed(tokens)
            if nnx_scan:
                axes = (nnx.Carry, 0)
                x = nnx.scan(lambda x, layer: layer(x), in_axes=axes, out_axes=nnx.Carry)(
                    x, self.layers
                )
            else:
                for layer in self.layers:
                    x = layer(x)
            return self.head(self.norm(x))

    def attend(q, k, v):
        scores = jnp.einsum("bqhk,bmhk->bhqm", q, k) / jnp.sqrt(1.0 * head_dim)
        mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e9), axis=-1)
        return jnp.einsum("bhqm,bmhk->bqhk", weights, v)

    tokens = jax.ShapeDtypeStruct((1, seq_len), jnp.int32)
    return Pair(Decoder(), lambda rngs: Port(rngs), (tokens,))
