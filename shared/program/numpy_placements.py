"""Operations in NumPy that move numbers and compute none. Meanings are those of `jax.lax`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
Operation = Callable[..., Array]


def _broadcast(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    shape, kept = params["shape"], params["broadcast_dimensions"]
    own = [1] * len(shape)
    for axis, size in zip(kept, x.shape, strict=True):
        own[axis] = size
    return np.broadcast_to(x.reshape(own), shape)


def _reshape(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    order = params.get("dimensions")
    return (x if order is None else x.transpose(order)).reshape(aval.shape)


def _same_elements(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    return x.reshape(aval.shape)


def _transpose(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    return x.transpose(params["permutation"])


def _reverse(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    return np.flip(x, params["dimensions"])


def _concatenate(*args: Array, params: Mapping[str, Any], aval: Any) -> Array:
    return np.concatenate(args, axis=params["dimension"])


def _slice(x: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    strides = params["strides"] or [1] * x.ndim
    places = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*place) for place in places)]


def _start(starts: Sequence[Array], shape: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Where a dynamic slice begins: within the array."""
    limits = [size - taken for size, taken in zip(shape, sizes, strict=True)]
    return [int(np.clip(start, 0, limit)) for start, limit in zip(starts, limits, strict=True)]


def _dynamic_slice(x: Array, *starts: Array, params: Mapping[str, Any], aval: Any) -> Array:
    sizes = params["slice_sizes"]
    begin = _start(starts, x.shape, sizes)
    return x[tuple(slice(a, a + size) for a, size in zip(begin, sizes, strict=True))]


def _dynamic_update_slice(
    x: Array, part: Array, *starts: Array, params: Mapping[str, Any], aval: Any
) -> Array:
    begin = _start(starts, x.shape, part.shape)
    made = x.copy()
    made[tuple(slice(a, a + size) for a, size in zip(begin, part.shape, strict=True))] = part
    return made


def _pad(x: Array, value: Array, *, params: Mapping[str, Any], aval: Any) -> Array:
    made = np.full(aval.shape, value, x.dtype)
    here, there = [], []
    for size, (low, _, between), whole in zip(
        x.shape, params["padding_config"], aval.shape, strict=True
    ):
        step = between + 1
        places = low + step * np.arange(size)
        inside = np.flatnonzero((places >= 0) & (places < whole))
        here.append(inside)
        there.append(places[inside])
    made[np.ix_(*there)] = x[np.ix_(*here)]
    return made


def _iota(*, params: Mapping[str, Any], aval: Any) -> Array:
    axis, shape = params["dimension"], params["shape"]
    row = np.arange(shape[axis]).astype(params["dtype"])
    return np.broadcast_to(row.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)


PLACEMENTS: dict[str, Operation] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _same_elements,
    "expand_dims": _same_elements,
    "transpose": _transpose,
    "rev": _reverse,
    "concatenate": _concatenate,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "pad": _pad,
    "iota": _iota,
}
