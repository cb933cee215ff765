"""Named arrays of both sides: which are apart, by how much, beside a limit."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from shared.verification.limits import Limits

# Of the optimizer with the same gradients: as far as a sum in another order leads, in units in the
# last place of the largest number of an array. A global norm is such a sum.
UPDATE_ULPS = 32
# Of moments: squares of gradients, added up over the steps.
MOMENTS_RTOL = 1e-3
# What is so small beside the largest gradient of all is rounding.
ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True)
class Apart:
    """What is apart.

    Attributes:
      paths: of all that is out of limits, in order.
      worst: of the largest difference beside its limit; gap: that difference; limit: its limit.
      is_equal: whether all is bitwise equal.
    """

    paths: tuple[str, ...]
    worst: str | None
    gap: float
    limit: float
    is_equal: bool

    @property
    def beside(self) -> float:
        """That difference in parts of its limit."""
        return self.gap / self.limit if self.limit else self.gap and np.inf


def apart(
    linen: Mapping[str, Any],
    nnx: Mapping[str, Any],
    limits: Limits,
    rtol: float | None = None,
    atol: float = 0.0,
) -> Apart:
    """What of both is apart. A name that NNX does not have is zero there.

    Args:
      linen: {name: array}; nnx: the same.
      limits: the user's, which go before all others.
      rtol: of the largest number of an array; None: `UPDATE_ULPS` of its type.
      atol: beside it.
    """
    out: list[str] = []
    worst: tuple[float, str | None, float, float] = (-1.0, None, 0.0, 0.0)
    is_equal = True
    for path, a in linen.items():
        a, b = np.asarray(a), np.asarray(nnx.get(path, np.zeros_like(a)))
        if a.tobytes() == b.tobytes() or np.array_equal(a, b):
            continue
        is_equal = False
        kind = a.dtype if a.dtype.itemsize <= b.dtype.itemsize else b.dtype
        relative = UPDATE_ULPS * float(jnp.finfo(kind).eps) if rtol is None else rtol
        if rtol is not None and jnp.finfo(kind).bits < 32:
            relative = max(relative, Limits().of(kind, derived=True)[0])
        relative = relative if limits.rtol is None else limits.rtol
        x, y = a.astype(np.complex128), b.astype(np.complex128)
        size = float(np.max(np.abs(x), initial=0.0))
        limit = relative * size + (atol if limits.atol is None else limits.atol)
        gaps = np.abs(x - y)
        gap = float(np.max(np.where(np.isnan(gaps), np.inf, gaps), initial=0.0))
        beside = gap / limit if limit else np.inf
        if gap > limit:
            out.append(path)
        if beside > worst[0]:
            worst = (beside, path, gap, limit)
    return Apart(tuple(out), worst[1], worst[2], worst[3], is_equal)


def largest(arrays: Mapping[str, Any]) -> float:
    """The largest |x| of all arrays."""
    return max(
        (float(np.max(np.abs(np.asarray(x, np.complex128)), initial=0.0)) for x in arrays.values()),
        default=0.0,
    )


def factor(linen: Mapping[str, Any], nnx: Mapping[str, Any]) -> float | None:
    """The c with which nnx = c * linen on every array, to a thousandth; None if there is none."""
    pairs = [
        (np.asarray(x, np.float64).reshape(-1), np.asarray(nnx[path], np.float64).reshape(-1))
        for path, x in linen.items()
        if path in nnx
    ]
    if len(pairs) < len(linen) or not linen:
        return None
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    square = float(one @ one)
    if not square or not np.isfinite(other).all():
        return None
    number, floor = float(one @ other) / square, ROUNDING * float(np.max(np.abs(one)))
    for x, y in pairs:
        size = max(float(np.max(np.abs(x), initial=0.0)), floor)
        if np.max(np.abs(y - number * x), initial=0.0) > 1e-3 * abs(number) * size:
            return None
    return number
