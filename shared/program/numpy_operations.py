"""Operations in NumPy: no program is compiled for them, and nothing of XLA is in their results.

XLA compiles a program for each operation on each shape, which took most of the time of an
evaluation; what is not here is computed by XLA. Meanings are those of `jax.lax`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax import lax

from shared.program.numpy_placements import PLACEMENTS, Array, Operation


def compute(op: str, args: Sequence[Array], params: Mapping[str, Any], aval: Any) -> Array | None:
    """The result of an operation, or None where it is not one of those in NumPy.

    Args:
      op: the name of the primitive.
      args: its operands; params: its parameters.
      aval: shape and dtype of its result.
    """
    operation = _OPERATIONS.get(op)
    if operation is None:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(operation(*args, params=params, aval=aval))


def _plain(function: Callable[..., Any]) -> Operation:
    """An operation without parameters."""
    return lambda *args, params, aval: function(*args)


def _special(name: str) -> Operation:
    """A function of `scipy.special`, which is imported where a model has it: it takes a while."""

    def function(*args: Array) -> Array:
        from scipy import special

        return getattr(special, name)(*args)

    return _plain(function)


def _divide(x: Array, y: Array) -> Array:
    if x.dtype.kind in "fc":
        return x / y
    # Whole numbers are divided towards zero; by zero, as XLA does it.
    zero, all_ones = y == 0, np.invert(np.zeros_like(x))
    y = np.where(zero, 1, y)
    return np.where(zero, all_ones, (x - np.fmod(x, y)) // y)


def _remainder(x: Array, y: Array) -> Array:
    if x.dtype.kind in "fc":
        return np.fmod(x, y)
    return np.where(y == 0, x, np.fmod(x, np.where(y == 0, 1, y)))


def _round(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    to_even = params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN
    return np.round(x) if to_even else np.trunc(x + np.copysign(0.5, x))


def _integer_pow(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    power = params["y"]
    return x**power if power >= 0 else 1 / x**-power


def _clamp(low: Array, x: Array, high: Array) -> Array:
    return np.minimum(np.maximum(x, low), high)


def _select(which: Array, *cases: Array, params: Mapping[str, Any], aval: Any) -> Array:
    if len(cases) == 2:
        return np.where(which.astype(bool), cases[1], cases[0])
    return np.choose(np.broadcast_to(which, cases[0].shape), cases)


def _reduction(function: Callable[..., Any]) -> Operation:
    def reduce(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
        return function(x, axis=tuple(params["axes"])).astype(x.dtype)

    return reduce


def _largest(x: Array, axis: tuple[int, ...]) -> Array:
    return np.max(x, axis=axis, initial=_limits(x.dtype)[0])


def _smallest(x: Array, axis: tuple[int, ...]) -> Array:
    return np.min(x, axis=axis, initial=_limits(x.dtype)[1])


def _limits(dtype: Any) -> tuple[Any, Any]:
    if dtype.kind == "f":
        return -np.inf, np.inf
    return (False, True) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def _cumulative(function: Any) -> Operation:
    def accumulate(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
        axis, turned = params["axis"], params["reverse"]
        x = np.flip(x, axis) if turned else x
        made = function.accumulate(x, axis=axis, dtype=x.dtype)
        return np.flip(made, axis) if turned else made

    return accumulate


def _position(function: Callable[..., Any]) -> Operation:
    def position(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
        (axis,) = params["axes"]
        return function(x, axis=axis).astype(params["index_dtype"])

    return position


def _product(x: Array, y: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    """A product of batches of matrices; what it asks of precision has no say in float64."""
    (sum_x, sum_y), (batch_x, batch_y) = params["dimension_numbers"]
    free_x = [a for a in range(x.ndim) if a not in (*sum_x, *batch_x)]
    free_y = [a for a in range(y.ndim) if a not in (*sum_y, *batch_y)]
    batch = [x.shape[a] for a in batch_x]
    inner = math.prod(x.shape[a] for a in sum_x)
    rows, columns = [x.shape[a] for a in free_x], [y.shape[a] for a in free_y]
    left = x.transpose((*batch_x, *free_x, *sum_x)).reshape(*batch, math.prod(rows), inner)
    right = y.transpose((*batch_y, *sum_y, *free_y)).reshape(*batch, inner, math.prod(columns))
    return (left @ right).reshape((*batch, *rows, *columns))


def _power(x: Array, y: Array) -> Array:
    return np.power(x, y.astype(x.dtype) if x.dtype.kind in "fc" else y)


_PLAIN: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "sign": np.sign,
    "abs": np.abs,
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sqrt": np.sqrt,
    "cbrt": np.cbrt,
    "square": np.square,
    "floor": np.floor,
    "ceil": np.ceil,
    "is_finite": np.isfinite,
    "not": np.invert,
    "real": np.real,
    "imag": np.imag,
    "conj": np.conj,
    "stop_gradient": np.asarray,
    "copy": np.asarray,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _divide,
    "rem": _remainder,
    "max": np.maximum,
    "min": np.minimum,
    "pow": _power,
    "clamp": _clamp,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}

_SPECIAL = {
    "logistic": "expit",
    "erf": "erf",
    "erfc": "erfc",
    "erf_inv": "erfinv",
    "lgamma": "gammaln",
    "digamma": "digamma",
}

_OPERATIONS: dict[str, Operation] = {
    **{name: _special(of_scipy) for name, of_scipy in _SPECIAL.items()},
    **{name: _plain(function) for name, function in _PLAIN.items()},
    "round": _round,
    "integer_pow": _integer_pow,
    "select_n": _select,
    **PLACEMENTS,
    "reduce_sum": _reduction(np.sum),
    "reduce_prod": _reduction(np.prod),
    "reduce_max": _reduction(_largest),
    "reduce_min": _reduction(_smallest),
    "reduce_and": _reduction(np.bitwise_and.reduce),
    "reduce_or": _reduction(np.bitwise_or.reduce),
    "cumsum": _cumulative(np.add),
    "cumprod": _cumulative(np.multiply),
    "cummax": _cumulative(np.maximum),
    "cummin": _cumulative(np.minimum),
    "argmax": _position(np.argmax),
    "argmin": _position(np.argmin),
    "dot_general": _product,
}
NAMES = frozenset(_OPERATIONS)
