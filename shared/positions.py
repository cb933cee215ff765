"""Where a token stands in its text, as numbers that are added to its embedding."""

import jax
import jax.numpy as jnp


def sinusoidal(positions: jax.Array, features: int) -> jax.Array:
    """Sines and cosines in turn, of frequencies from 1 down to 1 / 10000: (T,) -> (T, features).

    Source: A. Vaswani et al., Attention Is All You Need, section 3.5.
    """
    feature = jnp.arange(features)
    angles = positions[:, None] * 10000.0 ** -(feature // 2 * 2 / features)
    return jnp.where(feature % 2 == 0, jnp.sin(angles), jnp.cos(angles))
