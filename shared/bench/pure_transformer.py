"""The transformer in plain JAX, of whole texts and of one token."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from shared.bench.pure_layers import Leaves, attention
from shared.cases import Case
from shared.linen_keys import draw_words
from shared.positions import sinusoidal

Dropped = Callable[[jax.Array, int], jax.Array]


def transformer(case: Case) -> Callable[..., jax.Array]:
    """vmap(scan(remat)): tokens (B, T), in training a key -> logits (B, T, vocab)."""
    keep = 1 - case.arguments["rate"]
    words = [draw_words(row.draws, case.num_scans) for row in case.inputs[1:]]

    def layer(x, of_layer):
        params, keys = of_layer

        def dropped(y, place):
            for key, own in zip(keys, words, strict=True):  # one in training, else none
                word = jnp.uint32(own[place])
                mask = jax.random.bernoulli(jax.random.fold_in(key, word), keep, y.shape)
                y = lax.select(mask, y / keep, jnp.zeros_like(y))
            return y

        places = jnp.arange(x.shape[-2])
        mask = (places[:, None] >= places)[None].astype(jnp.float32)
        return block(x, params, mask, dropped)

    def forward(leaves: Leaves, tokens: jax.Array, *keys: jax.Array) -> jax.Array:
        def one(tokens, keys):
            own = [jax.random.split(key, case.num_layers) for key in keys]
            return logits(case, leaves, layer, own, tokens, 0)

        return jax.vmap(one)(tokens, [jax.random.split(key, len(tokens)) for key in keys])

    return forward


def decode(case: Case) -> Callable[..., jax.Array]:
    """scan(remat): tokens (B, 1) at `start` -> logits (B, 1, vocab)."""

    def layer(x, of_layer):
        params, (index, cached_key, cached_value) = of_layer
        mask = (jnp.arange(cached_key.shape[-3]) <= index).astype(jnp.float32)
        return block(x, params, mask, lambda y, _: y, (index, cached_key, cached_value))

    def forward(leaves: Leaves, tokens: jax.Array, start: jax.Array) -> jax.Array:
        return logits(case, leaves[3:], layer, leaves[:3], tokens, start)

    return forward


def logits(
    case: Case, leaves: Leaves, layer: Callable, own: Any, tokens: jax.Array, start: Any
) -> jax.Array:
    """Tokens (..., T) -> logits (..., T, vocab). `own`: what each layer has beside its params."""
    table, *others = leaves
    head = table.T if case.arguments["is_tied"] else others.pop(0)
    *layers, bias, scale = others
    policy = getattr(jax.checkpoint_policies, case.arguments["policy"])
    layer = jax.checkpoint(layer, prevent_cse=False, policy=policy)
    x = jnp.take(table, tokens, axis=0)
    x = x + sinusoidal(start + jnp.arange(tokens.shape[-1]), x.shape[-1])
    x, _ = lax.scan(lambda x, of_layer: (layer(x, of_layer), None), x, (layers, own))
    return norm(x, bias, scale) @ head


def block(
    x: jax.Array, params: Leaves, mask: jax.Array, dropped: Dropped, cache: Leaves | None = None
) -> jax.Array:
    """`h + mlp(norm(h))`, `h = x + attention(norm(x))`: (..., T, F) -> the same."""
    *of_attention, bias, scale, of_down, down, hidden_bias, hidden_scale, of_up, up = params
    y = attention(norm(x, bias, scale), tuple(of_attention), mask, cache)
    x = x + dropped(y, 0)
    y = jax.nn.gelu(norm(x, hidden_bias, hidden_scale) @ up + of_up)
    return x + dropped(y @ down + of_down, 1)


def norm(x: jax.Array, bias: jax.Array, scale: jax.Array) -> jax.Array:
    """LayerNorm, as Flax does it: the variance is the mean square less the square of the mean."""
    # The square first: in the order of their operations the gradients by x are added.
    mean, of_square = (each.mean(-1) for each in (x, jnp.square(x)))
    var = jnp.maximum(0.0, of_square - jnp.square(mean))
    mean, var = mean[..., None], var[..., None]
    return (x - mean) * (lax.rsqrt(var + 1e-6) * scale) + bias


FORWARD: dict[str, Callable[[Case], Callable[..., jax.Array]]] = {
    "transformer": transformer,
    "transformer_untied": transformer,
    "transformer_decode": decode,
}
