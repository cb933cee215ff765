"""A decoder-only transformer: one set of params to train, to evaluate and to sample from."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from shared.positions import sinusoidal


class TransformerBlock(nn.Module):
    """`h + mlp(norm(h))`, `h = x + attention(norm(x))`, causal: (..., T, F) -> (..., T, F)."""

    features: int
    num_heads: int
    head_dim: int
    hidden: int
    rate: float
    deterministic: bool
    decode: bool

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads,
            qkv_features=self.num_heads * self.head_dim,
            out_features=self.features,
            decode=self.decode,
            name="attention",
        )
        # While decoding the cache says which tokens there are: it needs no mask.
        mask = None if self.decode else nn.make_causal_mask(x[..., 0])
        y = attention(nn.LayerNorm(name="attention_norm")(x), mask=mask)
        x = x + nn.Dropout(self.rate, deterministic=self.deterministic)(y)

        y = nn.Dense(self.hidden, name="up")(nn.LayerNorm(name="hidden_norm")(x))
        y = nn.Dense(self.features, name="down")(nn.gelu(y))
        new_x = x + nn.Dropout(self.rate, deterministic=self.deterministic)(y)
        return new_x, None


class LanguageModel(nn.Module):
    """What both forms do with a text: tokens (..., T) -> logits (..., T, vocab)."""

    num_layers: int
    features: int
    num_heads: int
    head_dim: int
    hidden: int
    vocab: int
    is_tied: bool
    rate: float
    deterministic: bool
    policy: str

    decode = False

    @nn.compact
    def logits(self, tokens: jax.Array, start: int | jax.Array) -> jax.Array:
        embed = nn.Embed(self.vocab, self.features, name="embed")
        positions = start + jnp.arange(tokens.shape[-1])
        x = embed(tokens) + sinusoidal(positions, self.features)

        # Remat: on the way back one block is computed once more. A scan needs no barrier to CSE.
        RematBlock = nn.remat(
            TransformerBlock,
            policy=getattr(jax.checkpoint_policies, self.policy),
            prevent_cse=False,
        )

        # Scan: one block becomes N, each with its own params, its own masks and its own cache.
        ScanBlock = nn.scan(
            RematBlock,
            variable_axes={"params": 0, "cache": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.num_layers,
        )

        layers = ScanBlock(
            self.features,
            self.num_heads,
            self.head_dim,
            self.hidden,
            self.rate,
            self.deterministic,
            self.decode,
            name="layers",
        )
        x, _ = layers(x, None)
        x = nn.LayerNorm(name="norm")(x)
        if self.is_tied:
            return embed.attend(x)
        return nn.Dense(self.vocab, use_bias=False, name="head")(x)


class Transformer(LanguageModel):
    """Whole texts, to train and to evaluate: tokens (B, T) -> logits (B, T, vocab)."""

    # Vmap: one text becomes B, all with the same params, each with its own masks.
    @functools.partial(
        nn.vmap,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False, "dropout": True},
    )
    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.logits(tokens, start=0)


class Decode(LanguageModel):
    """The token at `start` of each text: (B, 1) -> (B, 1, vocab). Its params are the same.

    Cache (N, B, length, heads, head_dim).
    """

    decode = True

    # The cache is as long as the texts (B, length) that `model.init` is called with.

    def __call__(self, tokens: jax.Array, start: int | jax.Array) -> jax.Array:
        return self.logits(tokens, start)
