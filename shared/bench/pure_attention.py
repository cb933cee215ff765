"""The attention of Linen in plain JAX: a whole text at once, or token by token with a cache."""

import jax
import jax.numpy as jnp
from jax import lax

Leaves = tuple[jax.Array, ...]


def causal_layer(x: jax.Array, params: Leaves) -> jax.Array:
    """`x + attention(x)`, where no token sees a later one: (B, T, F) -> (B, T, F)."""
    places = jnp.arange(x.shape[-2])
    return x + attention(x, params, places[:, None] >= places)


def decode_layer(x: jax.Array, leaves: Leaves) -> jax.Array:
    """The same of one token: (B, 1, F) -> (B, 1, F); a cache (B, length, heads, head_dim)."""
    index, cached_key, cached_value, *params = leaves
    mask = jnp.arange(cached_key.shape[-3]) <= index
    return x + attention(x, tuple(params), mask, (index, cached_key, cached_value))


def attention(
    x: jax.Array,
    params: Leaves,
    mask: jax.Array,
    cache: Leaves | None = None,
) -> jax.Array:
    """(B, T, F) -> (B, T, F): params are bias and kernel of key, out, query and value.

    Args:
      mask: (T, length) or (length,), what is seen; cache: index (), keys and values.
    """
    of_key, of_out, of_query, of_value = zip(params[::2], params[1::2], strict=True)
    query, key, value = (project(x, of) for of in (of_query, of_key, of_value))
    if cache is not None:
        index, *cached = cache
        key, value = (
            lax.dynamic_update_slice_in_dim(old, new, index, axis=-3)
            for old, new in zip(cached, (key, value), strict=True)
        )
    query = query / jnp.sqrt(query.shape[-1]).astype(query.dtype)
    scores = jnp.einsum("...qhd,...khd->...hqk", query, key)
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min))
    bias, kernel = of_out
    return jnp.tensordot(jnp.einsum("...hqk,...khd->...qhd", weights, value), kernel, 2) + bias


def project(x: jax.Array, params: Leaves) -> jax.Array:
    """(B, T, F) -> (B, T, heads, head_dim)."""
    bias, kernel = params
    return jnp.tensordot(x, kernel, 1) + bias
