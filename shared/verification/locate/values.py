"""When two values, or two constants, are the same."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.program.graph import Node, constant_value
from shared.verification.checks.compare import size_of as size_without_masks

# Relative to the size of a value. The programs hold their constants in float32, 6e-8 off, which a
# deep network multiplies; what a mistake does is far above, but for a wrong epsilon, which is seen
# in the constants themselves.
SAME = 1e-6
SAME_OUTPUT = 1e-5
SAME_CONSTANT = 1e-6
# Between a number and the one next to it in bfloat16.
HALF_PRECISION = 2.0**-8
# A constant that is added so that nothing is divided by zero is smaller than this.
GUARD = 1e-2
# A model does not meet numbers larger than the first; those larger than the second mask others.
LARGEST = 1e6
MASKS_ALL = 5e8
# Of the size of other outputs: a gradient that is zero but for rounding has theirs.
ROUNDING = 1e-7


def mark_of(value: Any) -> tuple[Any, np.ndarray] | None:
    """What tells a value from others in any order of its elements; None if that is little.

    Of two numbers, as masks are made of, the order tells all.
    """
    if is_key(value):
        return None
    x = np.asarray(value).reshape(-1)
    if x.size < 2 or x.dtype.kind not in "cfiub" or np.all(x == x[0]):
        return None
    if x.dtype.kind == "c":
        x = x.view(x.real.dtype)
    # Large numbers, such as those of a mask, must not outweigh the others.
    x = np.arcsinh(x.astype(np.float64))
    if not np.all((x == x.min()) | (x == x.max())):
        x = np.sort(x)
    weights = _weights(x.size)
    with np.errstate(all="ignore"):
        sums = np.array([x @ weights[0], x @ weights[1], np.abs(x).sum()])
    if not np.isfinite(sums).all():
        return None
    kind = np.asarray(value).dtype.kind
    return (x.size, kind if kind in "cf" else ""), sums


@functools.lru_cache(maxsize=64)
def _weights(size: int) -> np.ndarray:
    return np.random.default_rng(size).standard_normal((2, size))


def is_key(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def size_of(value: Any) -> float:
    """The largest number in `value` that is no mask; 0 of what is not floating."""
    if is_key(value) or np.asarray(value).dtype.kind not in "fc":
        return 0.0
    return size_without_masks(np.asarray(value))


def same_in_place(x: Any, y: Any, scale: float) -> bool:
    """Whether two values are the same up to rounding, of which there is that of `scale` as well."""
    if is_key(x) or is_key(y):
        return is_key(x) and is_key(y)
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape:
        return False
    if x.dtype.kind not in "fc":
        return bool(np.array_equal(x, y))
    with np.errstate(invalid="ignore"):
        size = np.maximum(size_of(x), np.abs(x))
        near = np.isfinite(x) & (np.abs(x - y) <= SAME_OUTPUT * size + ROUNDING * scale)
    return bool(np.all(near | (x == y) | (np.isnan(x) & np.isnan(y))))


def is_near_in_half_precision(x: Any, y: Any) -> bool:
    """Whether two values are as near as a number and that number in half precision."""
    if is_key(x) or is_key(y):
        return False
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape or x.dtype.kind not in "fc":
        return False
    return bool(np.all(np.abs(x - y) <= HALF_PRECISION * np.abs(x)))


def is_unreasonable(value: Any) -> bool:
    """Whether a value is no number, or near the size of what masks others."""
    x = np.asarray(value)
    if x.dtype.kind != "f":
        return False
    size = np.abs(x)
    return bool(np.isnan(x).any() or ((size > LARGEST) & (size < MASKS_ALL)).any())


def same_constant(a: Node, b: Node) -> bool:
    x, y = constant_value(a), constant_value(b)
    if x.shape != y.shape or x.dtype.kind != "f" or y.dtype.kind != "f":
        return x.shape != y.shape or bool(np.array_equal(x, y))
    x, y = x.astype(float), y.astype(float)  # float16 has no number as large as a mask
    if np.all(np.abs([x, y]) > MASKS_ALL) and np.array_equal(np.sign(x), np.sign(y)):
        return True
    return bool(np.allclose(x, y, rtol=SAME_CONSTANT, atol=0))


def is_guard(node: Node) -> bool:
    """Whether an operation adds a small constant, or bounds by it: an epsilon."""
    if node.op not in ("add", "max"):
        return False
    constants = [constant_value(arg) for arg, _ in node.args if arg.op == "constant"]
    return any(x.size == 1 and 0 < abs(x.item()) < GUARD for x in constants if x.dtype.kind == "f")


class ValueTable:
    """The values of one size, in the order of their marks' last number."""

    def __init__(self, rows: list[tuple[Node, np.ndarray]]) -> None:
        sums = np.stack([each for _, each in rows])
        self.order = np.argsort(sums[:, -1], kind="stable")
        self.sums = sums[self.order]
        self.nodes = [node for node, _ in rows]

    def near(self, sums: np.ndarray) -> list[Node]:
        """Those with these numbers, up to rounding, in the order of their program."""
        room = 2 * SAME * abs(sums[-1])
        first, last = np.searchsorted(self.sums[:, -1], (sums[-1] - room, sums[-1] + room))
        part = self.sums[first : last + 1]
        near = np.all(np.abs(part - sums) <= SAME * np.abs(part[:, -1:]), axis=1)
        return [self.nodes[i] for i in np.sort(self.order[first : last + 1][near])]
