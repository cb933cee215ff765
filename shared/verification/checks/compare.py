"""Two sets of arrays, and how far they are apart."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from shared.report.result import STATUSES, Check
from shared.verification.limits import Limits


def compare(
    name: str,
    linen: Mapping[str, Any],
    nnx: Mapping[str, Any],
    limits: Limits,
    derived: bool = False,
    narrow: bool = False,
) -> Check:
    """A check of two sets of named arrays, with the largest of all differences.

    Args:
      name: of the check.
      linen: {name: array}; nnx: the same.
      limits: up to where they are close.
      derived: whether they are derived from results, as gradients are.
      narrow: whether they were computed in less than float32 somewhere.
    """
    if not linen:
        return Check(name, "equal", note="nothing to compare")
    status, worst, limit = "equal", None, None
    largest = {"max_abs": 0.0, "max_ulp": 0.0, "max_rel": 0.0}
    for path, a in linen.items():
        a, b = np.asarray(a), np.asarray(nnx[path])
        if a.shape != b.shape or a.dtype != b.dtype:
            note = f"{path}: {a.dtype}{list(a.shape)} in Linen, {b.dtype}{list(b.shape)} in NNX"
            return Check(name, "different", worst_leaf=path, note=note)
        if a.tobytes() == b.tobytes() or np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
            continue
        rtol, atol = limits.of(a.dtype, derived, narrow)
        limit = f"rtol {rtol:g}, atol {atol:g}"
        wide = np.complex128 if jnp.issubdtype(a.dtype, jnp.complexfloating) else np.float64
        x, y = a.astype(wide), b.astype(wide)
        with np.errstate(invalid="ignore"):
            gap = np.where(x == y, 0.0, np.abs(x - y))
        size = size_of(x)
        close = gap <= atol + rtol * np.maximum(size, np.abs(x))
        status = _worse(status, "close" if close.all() else "different")
        top = float(np.nanmax(gap, initial=0.0)) if np.isfinite(gap).any() else float("inf")
        if worst is None or top > largest["max_abs"]:
            worst = path
        ulp = float(jnp.finfo(a.dtype).eps) if jnp.issubdtype(a.dtype, jnp.inexact) else 1.0
        relative = top / size if size else float("inf")
        measured = {"max_abs": top, "max_ulp": relative / ulp, "max_rel": relative}
        largest = {key: max(largest[key], measured[key]) for key in largest}
    made = Check(name, status, limit=limit, worst_leaf=worst)
    return dataclasses.replace(made, **largest)  # type: ignore[arg-type]


# A number this large is there to mask, where others are smaller.
MASKS = 1e4


def size_of(x: np.ndarray) -> float:
    """The largest |x| that is finite and no mask."""
    sizes = np.abs(x[np.isfinite(x)])
    unmasked = sizes[sizes < MASKS]
    return float(np.max(unmasked if unmasked.any() else sizes, initial=0.0))


def worst_of(checks: list[Check]) -> Check:
    """The check with the largest difference among several of one property."""
    return max(checks, key=lambda check: (STATUSES.index(check.status), check.max_abs or 0))


def _worse(one: str, other: str) -> str:
    return max(one, other, key=STATUSES.index)
