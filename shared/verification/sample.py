"""Random numbers to compute with: the same in the weights of both sides."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from shared.program.drawn_leaves import is_draw
from shared.weights.entry import Entry

# By so much, and by so much of the largest number, rounding does not move a result.
_FAR = 1e-2
# What share of all numbers is small, or large.
_EXTREME = 256


class Sample(NamedTuple):
    """Numbers to compute with.

    Attributes:
      linen: {path: array} of Linen's weights; nnx: the same numbers in those of NNX.
      inputs: of both.
      made_of: the number of the sample; what its inputs, its weights and those weights that are one
        number have been multiplied by, or set to; of which end its draws are.
      casts: whether casts to less than float32 round.
    """

    linen: dict[str, Any]
    nnx: dict[str, Any]
    inputs: tuple
    made_of: tuple[int, float, float, float | None, str] = (0, 1, 1, None, "")
    casts: bool = True

    @property
    def is_large(self) -> bool:
        """Whether they are larger, or draws rarer, than what a model usually meets."""
        return self.made_of[1:] != (1, 1, None, "")


def fill(
    linen: Mapping[str, Any], nnx: Mapping[str, Any], entries: tuple[Entry, ...], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Random leaves of both sides, equal where `entries` say so."""
    rng = np.random.default_rng(seed)
    first = {path: _random(rng, path, spec) for path, spec in linen.items()}
    second = {path: _random(rng, path, spec) for path, spec in nnx.items()}
    for i, (path, bits) in enumerate(first.items()):
        if is_draw(path):
            _spread(rng, bits, seed + i)
    copy_weights(entries, first, second)
    return first, second


def copy_weights(
    entries: tuple[Entry, ...], linen: Mapping[str, np.ndarray], nnx: Mapping[str, np.ndarray]
) -> None:
    """Writes the numbers of `linen` into `nnx`."""
    for entry in entries:
        numbers = entry.linen.of(linen[entry.linen.leaf])
        entry.nnx.put(nnx[entry.nnx.leaf], ~numbers if entry.is_turned else numbers)


def _random(rng: np.random.Generator, path: str, spec: Any) -> np.ndarray:
    """Small enough not to saturate: products keep their size, scales are near one.

    Whole numbers of one byte are weights, others count or are a place: those are small.
    """
    if is_draw(path):
        return random_bits(rng, spec)
    if spec.dtype == bool:
        return rng.integers(0, 2, spec.shape).astype(bool)
    if jnp.issubdtype(spec.dtype, jnp.integer):
        low, high = (-7, 8) if jnp.iinfo(spec.dtype).bits <= 8 else (0, 3)
        low = max(low, int(jnp.iinfo(spec.dtype).min))
        return np.asarray(rng.integers(low, high, spec.shape)).astype(spec.dtype)
    values = np.asarray(rng.standard_normal(spec.shape))
    if jnp.issubdtype(spec.dtype, jnp.complexfloating):
        values = values + 1j * rng.standard_normal(spec.shape)
    name = path.rsplit("/", 1)[-1]
    if name in ("var", "running_var", "moving_variance"):
        values = 1 + np.abs(values)
    elif name in ("scale", "gamma"):
        values = 1 + 0.3 * values
    elif len(spec.shape) >= 2 and name not in ("bias", "embedding"):
        values = values / np.sqrt(spec.shape[-2])
    else:
        values = 0.3 * values
    return np.array(values, spec.dtype)


def _spread(rng: np.random.Generator, bits: np.ndarray, which: int) -> None:
    """Makes some of `bits` small and some large: of few, chance leaves out a case of the model.

    One number alone is small, large or as it is, by `which`.
    """
    flat, most = bits.reshape(-1), int(np.iinfo(bits.dtype).max)
    small, large = flat // _EXTREME, most - flat // _EXTREME
    if flat.size == 1:
        flat[0] = (small[0], large[0], flat[0])[which % 3]
    elif flat.size:
        one, other = rng.choice(flat.size, 2, replace=False)
        flat[one], flat[other] = small[one], large[other]


def random_bits(rng: np.random.Generator, spec: Any) -> np.ndarray:
    """All numbers of the type of `spec`, equally often."""
    return rng.integers(0, np.iinfo(spec.dtype).max, spec.shape, spec.dtype, endpoint=True)


def at_end(bits: np.ndarray, end: str) -> np.ndarray:
    """Random bits that make uniform numbers near 0, "low", or near 1, "high"."""
    low = bits >> (8 * bits.dtype.itemsize // 4)
    return np.asarray(low if end == "low" else ~low)


def is_far(one: Any, other: Any) -> bool:
    """Whether two results that are floating, and of one shape, are far apart where finite.

    Where numbers are smaller than 1, up to `_FAR` is not far: they may be what a sum leaves of 0.
    """
    are_floating = all(jnp.issubdtype(each.dtype, jnp.floating) for each in (one, other))
    if not are_floating or one.shape != other.shape:
        return False
    x, y = np.asarray(one), np.asarray(other)
    are_finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[are_finite], y[are_finite]
    size = max(np.max(np.abs(each), initial=1) for each in (x, y))
    return bool(np.max(np.abs(x - y), initial=0) > _FAR * size)


def has_nan(x: Any) -> bool:
    """Whether some of `x` is not a number; infinity is one."""
    x = np.asarray(x)
    return x.dtype.kind in "fcV" and bool(np.isnan(x.astype(np.complex128)).any())
