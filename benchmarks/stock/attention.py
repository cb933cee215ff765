"""Attention, and decoding with a cache."""

import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from benchmarks.stock.row import Row, array
from shared import Pair

B, T, HEADS, D = 2, 3, 2, 4
SELF, CROSS = ((B, T, D),), ((B, T, D), (B, T + 2, D))
NAMES = ("MultiHeadDotProductAttention", "MultiHeadAttention")
CAUSAL = {"mask": jnp.tril(jnp.ones((B, 1, T, T), bool))}


def attention(shapes=SELF, words=None, **options):
    """Attention among arrays of some shapes, called with some words."""

    def make(dtype):
        def build(rngs):
            return nnx.MultiHeadAttention(HEADS, D, dtype=dtype, decode=False, rngs=rngs, **options)

        return Pair(
            nn.MultiHeadDotProductAttention(HEADS, dtype=dtype, **options),
            build,
            tuple(array(dtype, *shape) for shape in shapes),
            linen_kwargs=words or {},
            nnx_kwargs=words or {},
        )

    return make


def decoding(is_told=True, **options):
    """One token against a cache of `T`.

    Args:
      is_told: whether the cache of NNX is given the dtype; Linen's takes that of its keys.
    """

    def make(dtype):
        words = {"dtype": dtype, "decode": True, **options}

        def build(rngs):
            port = nnx.MultiHeadAttention(HEADS, D, rngs=rngs, **words)
            port.init_cache((B, T, D), *([dtype] if is_told else []))
            return port

        def linen_call(module, x):
            # Linen sizes the cache by what `init` is called on.
            return module(jnp.tile(x, (1, T, 1)) if module.is_initializing() else x)

        module = nn.MultiHeadDotProductAttention(HEADS, **words)
        return Pair(module, build, (array(dtype, B, 1, D),), linen_call=linen_call)

    return make


class LinenFunction(nn.Module):
    def __call__(self, query, key, value):
        return nn.dot_product_attention(query, key, value)


class NnxFunction(nnx.Module):
    def __call__(self, query, key, value):
        return nnx.dot_product_attention(query, key, value)


def function(dtype):
    """What is between the projections, which models of their own call."""
    many = array(dtype, B, T + 2, HEADS, D)
    inputs = (array(dtype, B, T, HEADS, D), many, many)
    return Pair(LinenFunction(), lambda rngs: NnxFunction(), inputs)


_DROPOUT = attention(dropout_rate=0.5, deterministic=True)

ROWS = (
    Row(*NAMES, attention(), decode=decoding()),
    Row(*NAMES, attention(words=CAUSAL), "mask"),
    Row(*NAMES, attention(CROSS), "cross attention"),
    Row(
        *NAMES,
        attention(normalize_qk=True),
        "normalize_qk",
        decode=decoding(normalize_qk=True),
    ),
    Row(*NAMES, _DROPOUT, "dropout"),
    Row(*NAMES, attention(words={"sow_weights": True}), "sow_weights"),
    Row(*NAMES, None, "init_cache without dtype", decode=decoding(is_told=False)),
    Row("dot_product_attention", "dot_product_attention", function),
)
