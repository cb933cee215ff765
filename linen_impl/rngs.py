"""From a seed to the random streams that a model is initialised with."""

import jax


def linen_rngs(seed: int) -> dict[str, jax.Array]:
    """The streams of `model.init`. How a draw gets its key of them: `shared/linen_keys.py`."""
    return {"params": jax.random.key(seed)}


def native_rngs(seed: int) -> dict[str, jax.Array]:
    """Linen's own streams: the same as `linen_rngs`."""
    return linen_rngs(seed)
