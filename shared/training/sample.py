"""Text out of a model: each token drawn from the logits of the one before."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from shared.cases import CASES, Case
from shared.interface import Implementation

TEMPERATURE = 0.8


# Compiled once for all runs in this process that are alike.
@functools.partial(jax.jit, static_argnames=("implementation", "case", "seed"))
def sample(
    implementation: Implementation,
    case: Case,
    params: dict[str, Any],
    prompts: jax.Array | np.ndarray,
    seed: int,
) -> jax.Array:
    """Texts as long as those of training, (B, length), of which the first tokens are given.

    Args:
      implementation: whose params they are; it has a cache, and sees one token at a time.
      case: of the model in training.
      params: a plain nested dict.
      prompts: (B, given), at least one token of each text.
      seed: of what is drawn.
    """
    num_texts, num_given = prompts.shape
    length = case.axis_sizes["length"]
    decode = CASES["transformer_decode"]
    decode = dataclasses.replace(
        decode,
        num_layers=case.num_layers,
        features=case.features,
        batch_size=num_texts,
        sizes=tuple({**dict(decode.sizes), **dict(case.sizes)}.items()),
        options=tuple({**dict(case.options), "deterministic": True}.items()),
    )

    def next_token(carry, place):
        cache, token, key = carry
        variables = {"params": params, "cache": cache}
        logits, updates = implementation.apply(decode, variables, token, place)
        key, own = jax.random.split(key)
        drawn = jax.random.categorical(own, logits / TEMPERATURE)
        given = jnp.take(prompts, jnp.minimum(place + 1, num_given - 1), axis=1)[:, None]
        following = jnp.where(place + 1 < num_given, given, drawn)
        return (updates["cache"], following, key), token

    cache = implementation.init(decode, 0)["cache"]
    start = cache, prompts[:, :1], jax.random.key(seed)
    _, tokens = lax.scan(next_token, start, jnp.arange(length))
    return tokens[..., 0].T
