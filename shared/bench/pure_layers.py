"""One layer of a case in plain JAX: params are a tuple, in the order of Linen's paths."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

Leaves = tuple[jax.Array, ...]
Layer = Callable[[jax.Array, Leaves], jax.Array]


def dense_relu(x: jax.Array, params: Leaves) -> jax.Array:
    """(F,) or (B, F) -> the same: params are bias (F,) and kernel (F, F)."""
    bias, kernel = params
    return jax.nn.relu(x @ kernel + bias)


def pair(x: jax.Array, params: Leaves) -> jax.Array:
    """Two layers, of whose params Linen's names have `down` before `up`."""
    return dense_relu(dense_relu(x, params[2:]), params[:2])


def choosing(x: jax.Array, params: Leaves) -> jax.Array:
    """One of two branches, then one of three: (F,) -> (F,)."""
    bias, kernel = params
    x = x @ kernel + bias
    x = lax.cond(jnp.sum(x) > 0, lambda x: dense_relu(x, params), jax.nn.silu, x)
    return lax.switch(jnp.sum(x > 0) % 3, [lambda x, k=k: (1 + k) * x for k in range(3)], x)


def repeating(x: jax.Array, params: Leaves) -> jax.Array:
    """The layer, again for each positive number: (F,) -> (F,)."""

    def once(carry):
        count, x = carry
        return count - 1, dense_relu(x, params)

    x = dense_relu(x, params)
    return lax.while_loop(lambda carry: carry[0] > 0, once, (jnp.sum(x > 0), x))[1]


def transposed(x: jax.Array, params: Leaves) -> jax.Array:
    """The layer with its kernel kept as (out, in)."""
    return dense_relu(x, tuple(leaf.T for leaf in params))


def mixed(x: jax.Array, params: Leaves) -> jax.Array:
    """The layer in the dtype of `x`, whatever that of its params is."""
    bias, kernel = (leaf.astype(x.dtype) for leaf in params)
    # Of two axes, as in Linen: the gradient of a vector of bfloat16 is rounded once more.
    return dense_relu(x, (bias.reshape(1, -1), kernel))


def causal(x: jax.Array, params: Leaves) -> jax.Array:
    """`x + attention(x)`, where no token sees a later one: (B, T, F) -> (B, T, F)."""
    # As Linen makes it: of each text, and of floating numbers.
    places = jnp.broadcast_to(jnp.arange(x.shape[-2], dtype=jnp.int32), x.shape[:-1])
    mask = (places[:, :, None] >= places[:, None, :])[:, None].astype(jnp.float32)
    return x + attention(x, params, mask)


def decode(x: jax.Array, leaves: Leaves) -> jax.Array:
    """The same of one token: (B, 1, F) -> (B, 1, F); a cache (B, length, heads, head_dim)."""
    index, cached_key, cached_value, *params = leaves
    mask = (jnp.arange(cached_key.shape[-3]) <= index).astype(jnp.float32)
    return x + attention(x, tuple(params), mask, (index, cached_key, cached_value))


def attention(
    x: jax.Array,
    params: Leaves,
    mask: jax.Array,
    cache: Leaves | None = None,
) -> jax.Array:
    """(B, T, F) -> (B, T, F): params are bias and kernel of key, out, query and value.

    Args:
      mask: (B, 1, T, T) or (length,), 1 of what is seen; cache: index (), keys and values.
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
