"""The loss that a language model is trained with."""

import jax
import optax


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean negative log likelihood, in nats a token.

    Args:
      logits: (..., vocab).
      targets: (...), the tokens that come next.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
