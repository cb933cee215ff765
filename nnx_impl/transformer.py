"""A decoder-only transformer: one set of params to train, to evaluate and to sample from."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from nnx_impl.decode import linen_attention
from shared.positions import sinusoidal

# What is passed and split where nothing is dropped.
_NO_STREAMS = nnx.Rngs()


class TransformerBlock(nnx.Module):
    """`h + mlp(norm(h))`, `h = x + attention(norm(x))`, causal: (..., T, F) -> (..., T, F)."""

    def __init__(
        self,
        features: int,
        num_heads: int,
        head_dim: int,
        hidden: int,
        rate: float,
        deterministic: bool,
        decode: bool,
        *,
        rngs: nnx.Rngs,
    ):
        self.attention_norm = nnx.LayerNorm(features, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads,
            features,
            qkv_features=num_heads * head_dim,
            decode=decode,
            attention_fn=linen_attention,
            rngs=rngs,
        )
        self.hidden_norm = nnx.LayerNorm(features, rngs=rngs)
        self.up = nnx.Linear(features, hidden, rngs=rngs)
        self.down = nnx.Linear(hidden, features, rngs=rngs)
        # It draws from what the call is given, and so serves both places.
        self.dropout = nnx.Dropout(rate, deterministic=deterministic)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        # While decoding the cache says which tokens there are: it needs no mask.
        mask = None if self.attention.decode else nnx.make_causal_mask(x[..., 0])
        y = self.attention(self.attention_norm(x), mask=mask)
        x = x + self.dropout(y, rngs=rngs)

        y = self.up(self.hidden_norm(x))
        y = self.down(nnx.gelu(y))
        new_x = x + self.dropout(y, rngs=rngs)
        return new_x


class LanguageModel(nnx.Module):
    """What both forms do with a text: tokens (..., T) -> logits (..., T, vocab)."""

    decode = False

    def __init__(
        self,
        num_layers: int,
        features: int,
        num_heads: int,
        head_dim: int,
        hidden: int,
        vocab: int,
        is_tied: bool,
        rate: float,
        deterministic: bool,
        policy: str,
        *,
        rngs: nnx.Rngs,
    ):
        def init_layer(_, rngs):
            block = TransformerBlock(
                features, num_heads, head_dim, hidden, rate, deterministic, self.decode, rngs=rngs
            )
            return None, block

        self.embed = nnx.Embed(vocab, features, rngs=rngs)
        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))
        self.norm = nnx.LayerNorm(features, rngs=rngs)
        if not is_tied:
            self.head = nnx.Linear(features, vocab, use_bias=False, rngs=rngs)
        self.num_layers, self.is_tied, self.policy = num_layers, is_tied, policy

    @staticmethod
    @functools.cache  # made once for each policy
    def make_scan(policy: str):
        # Remat: on the way back one block is computed once more. A scan needs no barrier to CSE.
        remat_block = nnx.remat(
            TransformerBlock.__call__,
            policy=getattr(jax.checkpoint_policies, policy),
            prevent_cse=False,
            graph=False,
        )

        # Scan: one block becomes N, each with its own params, its own masks and its own cache.
        return nnx.scan(remat_block, in_axes=(0, nnx.Carry, 0), out_axes=nnx.Carry, graph=False)

    def logits(self, tokens: jax.Array, start: int | jax.Array, rngs: nnx.Rngs) -> jax.Array:
        positions = start + jnp.arange(tokens.shape[-1])
        x = self.embed(tokens) + sinusoidal(positions, self.embed.features)
        scan = self.make_scan(self.policy)
        x = scan(self.layers, x, rngs.split(self.num_layers))
        x = self.norm(x)
        if self.is_tied:
            return self.embed.attend(x)
        return self.head(x)


class Transformer(LanguageModel):
    """Whole texts, to train and to evaluate: tokens (B, T) -> logits (B, T, vocab)."""

    # Vmap: one text becomes B, all with the same params, each with its own masks.
    @nnx.vmap(in_axes=(None, 0, 0), out_axes=0, graph=False)
    def batched_logits(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        return self.logits(tokens, 0, rngs)

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs = _NO_STREAMS) -> jax.Array:
        return self.batched_logits(tokens, rngs.split(tokens.shape[0]))


class Decode(LanguageModel):
    """The token at `start` of each text: (B, 1) -> (B, 1, vocab). Its params are the same.

    Cache (N, B, length, heads, head_dim).
    """

    decode = True

    # The cache is made by a call of its own, for texts of `input_shape` (B, length). What gets new
    # variables is a copy, which the lift returns.
    def init_cache(self, input_shape: tuple[int, ...]):
        def init_layer(_, block):
            block = nnx.clone(block, graph=False)
            block.attention.init_cache((*input_shape, self.embed.features))
            return None, block

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, self.layers)

    def __call__(self, tokens: jax.Array, start: int | jax.Array) -> jax.Array:
        return self.logits(tokens, start, _NO_STREAMS)
