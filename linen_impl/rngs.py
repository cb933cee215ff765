"""From a seed to the random streams that a model is initialised with."""

import jax


def linen_rngs(seed: int) -> dict[str, jax.Array]:
    """The streams of `model.init`. Each draw's key is derived from names: see `shared/linen_keys.py`."""
    return {"params": jax.random.key(seed)}


def native_rngs(seed: int) -> dict[str, jax.Array]:
    """Linen's own streams: the same as `linen_rngs`."""
    return linen_rngs(seed)
