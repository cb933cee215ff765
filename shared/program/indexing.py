"""What is taken by a number: by a scan, by an index, by the counter of a loop that is unrolled.

A port that goes through its layers by number, `kernel[i]` in a `for` or a `fori_loop`, takes the
slices that a scan over the kernel takes.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from shared.program import numpy_operations
from shared.program.graph import Layer, Stack, Value, constant_value
from shared.program.tracer import Handler, Tracer
from shared.program.view import View, any_layer

# What a loop counts with, and what indexing makes of a number.
_COUNTED = (
    *("add", "sub", "mul", "neg", "rem", "div", "max", "min", "clamp"),
    *("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"),
)


def taken(tracer: Tracer, value: Value, i: int, stack: Stack, layer: Layer) -> Value:
    """`value[i]`; of a leaf, or of a leaf with one axis moved to the front, a view."""
    node, which = value
    if node.op == "stack":
        return node.args[i]
    if node.op == "collect" and i == any_layer(node.params["depth"]):
        return node.args[0]
    axis, source = 0, value
    if node.op == "transpose" and node.args[0][0] in tracer.views:
        first, *rest = node.params["permutation"]
        if rest == sorted(rest):
            axis, source = first, node.args[0]
    if source[0] in tracer.views:
        return taken_of_weight(tracer, source, {axis: i}, stack)
    if node.op == "iota" and i >= 0 and node.avals[0].ndim == 1:
        dtype = node.avals[0].dtype
        return tracer.constant(np.asarray(i, dtype), jax.ShapeDtypeStruct((), dtype))
    aval = jax.ShapeDtypeStruct(node.avals[which].shape[1:], node.avals[which].dtype)
    return tracer.node("index", [value], {"i": i}, (aval,), stack, layer), 0


def taken_of_weight(tracer: Tracer, value: Value, positions: dict[int, int], stack: Stack) -> Value:
    """The view of a weight, or of a view of one, at a position of each of some axes."""
    node, which = value
    view, shape = tracer.views[node], node.avals[which].shape
    for gone, (axis, i) in enumerate(sorted(positions.items())):
        view = View(view.leaf, (*view.index, (view.axis(axis - gone), i)))
    kept = tuple(size for axis, size in enumerate(shape) if axis not in positions)
    return tracer.view(view, jax.ShapeDtypeStruct(kept, node.avals[which].dtype), stack)


def squeeze(
    tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer
) -> list[Value] | None:
    """What is taken of a weight by an index, which is a slice without its axis, as a view."""
    node, _ = args[0]
    if node.op != "slice" or node.args[0][0] not in tracer.views or node.params["strides"]:
        return None
    axes, starts = eqn.params["dimensions"], node.params["start_indices"]
    source, which = node.args[0]
    sizes = zip(source.avals[which].shape, node.avals[0].shape, strict=True)
    if any(size != whole for axis, (whole, size) in enumerate(sizes) if axis not in axes):
        return None
    return [taken_of_weight(tracer, node.args[0], {axis: starts[axis] for axis in axes}, stack)]


def gather(
    tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer
) -> list[Value] | None:
    """What `jnp.take` takes of a weight at a known place along an axis as a view."""
    (node, which), (index, _) = args
    while index.op in ("broadcast_in_dim", "reshape"):
        index = index.args[0][0]
    numbers, params = _numbers([(index, 0)]), eqn.params
    if node not in tracer.views or numbers is None:
        return None
    places, shape = params["dimension_numbers"], node.avals[which].shape
    axes, (i,) = places.start_index_map, map(int, numbers)
    rest = tuple(axis for axis in range(len(shape)) if axis not in axes)
    is_one = len(axes) == 1 and places.collapsed_slice_dims == axes and 0 <= i < shape[axes[0]]
    is_rest = [params["slice_sizes"][axis] for axis in rest] == [shape[axis] for axis in rest]
    if not is_one or not is_rest or eqn.outvars[0].aval.ndim != len(rest):
        return None
    return [taken_of_weight(tracer, args[0], {axes[0]: i}, stack)]


def known(
    tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer
) -> list[Value] | None:
    """The result of an operation on known whole numbers in an iteration; None of another one."""
    (aval,) = (var.aval for var in eqn.outvars)
    numbers = _numbers(args)
    if not layer or numbers is None or not _is_whole(aval):
        return None
    made = numpy_operations.compute(eqn.primitive.name, numbers, eqn.params, aval)
    return None if made is None else [tracer.constant(made.astype(aval.dtype), aval)]


def slice_at(
    tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer
) -> list[Value] | None:
    """A slice that begins at known places, as one that is written with numbers."""
    (node, which), numbers = args[0], _numbers(args[1:])
    if not layer or numbers is None:
        return None
    sizes = tuple(eqn.params["slice_sizes"])
    # As JAX moves it where it would reach over the end.
    most = [whole - size for whole, size in zip(node.avals[which].shape, sizes, strict=True)]
    starts = tuple(int(np.clip(n, 0, last)) for n, last in zip(numbers, most, strict=True))
    limits = tuple(start + size for start, size in zip(starts, sizes, strict=True))
    params = {"start_indices": starts, "limit_indices": limits, "strides": None}
    aval = eqn.outvars[0].aval
    return [(tracer.node("slice", args[:1], params, (aval,), stack, layer, lax.slice_p), 0)]


def _numbers(values: Sequence[Value]) -> list[np.ndarray] | None:
    """Whole numbers, if all of them are known."""
    if not all(node.op == "constant" and _is_whole(node.avals[which]) for node, which in values):
        return None
    return [constant_value(node) for node, _ in values]


def _is_whole(aval: Any) -> bool:
    """Whether it is that of one whole number, or of a truth value; that of a key is not."""
    return aval.shape == () and isinstance(aval.dtype, np.dtype) and aval.dtype.kind in "iub"


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(_COUNTED, known),
    "dynamic_slice": slice_at,
    "gather": gather,
    "squeeze": squeeze,
}
