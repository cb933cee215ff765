"""What can be written in several ways, in one of them.

A tile, a repeat and a concatenation of equal parts are a broadcast between two reshapes; a split
and what takes a stack apart are slices; a stack is a concatenation.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from shared.program.graph import Layer, Stack, Value
from shared.program.indexing import taken_of_weight
from shared.program.tracer import Handler, Tracer

Shape = tuple[int, ...]


def split(tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer) -> list[Value]:
    """The parts of a split as slices."""
    axis, start = eqn.params["axis"], 0
    parts = []
    for var in eqn.outvars:
        stop = start + var.aval.shape[axis]
        parts.append(_slice(tracer, args[0], axis, start, stop, stack, layer))
        start = stop
    return parts


def unstack(tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer) -> list[Value]:
    """What is taken out of a stack as slices without its axis."""
    axis = eqn.params["axis"]
    if args[0][0] in tracer.views:
        return [taken_of_weight(tracer, args[0], {axis: i}, stack) for i in range(len(eqn.outvars))]
    return [
        _reshape(
            tracer,
            _slice(tracer, args[0], axis, i, i + 1, stack, layer),
            var.aval.shape,
            stack,
            layer,
        )
        for i, var in enumerate(eqn.outvars)
    ]


def stacked(tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer) -> list[Value]:
    """A stack as the concatenation of what has one more axis."""
    axis = eqn.params["axis"]
    shape = eqn.outvars[0].aval.shape
    row = (*shape[:axis], 1, *shape[axis + 1 :])
    made = {arg: _reshape(tracer, arg, row, stack, layer) for arg in dict.fromkeys(args)}
    return [_joined(tracer, [made[arg] for arg in args], axis, stack, layer)]


def concatenate(
    tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer
) -> list[Value]:
    """A concatenation; of one value with itself, its repetition."""
    return [_joined(tracer, args, eqn.params["dimension"], stack, layer)]


def tile(tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer) -> list[Value]:
    """A tile as one repetition for each axis."""
    value = args[0]
    for axis, count in enumerate(eqn.params["reps"]):
        value = _repeated(tracer, value, axis, count, stack, layer)
    return [value]


def slice_(
    tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer
) -> list[Value] | None:
    """A slice whose strides are all one as a slice without strides."""
    if eqn.params["strides"] is None or set(eqn.params["strides"]) - {1}:
        return None
    params = {**eqn.params, "strides": None}
    made = tracer.node("slice", args, params, (eqn.outvars[0].aval,), stack, layer, eqn.primitive)
    return [(made, 0)]


def convert(
    tracer: Tracer, eqn: Any, args: list[Value], stack: Stack, layer: Layer
) -> list[Value] | None:
    """A constant of another type as a constant."""
    node, _ = args[0]
    if node.op != "constant":
        return None
    dtype, aval = eqn.params["new_dtype"], eqn.outvars[0].aval
    value = np.asarray(node.params["value"]).astype(dtype)
    if jnp.issubdtype(dtype, jnp.floating):
        exact = node.params.get("exact", node.params["value"])
        return [tracer.constant(value, aval, exact, of=node)]
    return [tracer.constant(value, aval, of=node)]


def _joined(tracer: Tracer, args: Sequence[Value], axis: int, stack: Stack, layer: Layer) -> Value:
    if all(arg == args[0] for arg in args):
        return _repeated(tracer, args[0], axis, len(args), stack, layer)
    shape = list(_shape(args[0]))
    shape[axis] = sum(_shape(arg)[axis] for arg in args)
    params = {"dimension": axis}
    return _op(tracer, lax.concatenate_p, args, params, tuple(shape), stack, layer)


def _repeated(
    tracer: Tracer, value: Value, axis: int, count: int, stack: Stack, layer: Layer
) -> Value:
    """`value` `count` times along `axis`, one behind the other."""
    shape = _shape(value)
    if count == 1:
        return value
    longer = (*shape[:axis], count * shape[axis], *shape[axis + 1 :])
    if shape[axis] == 1:
        return _broadcast(tracer, value, longer, range(len(shape)), stack, layer)
    apart = (*shape[:axis], count, *shape[axis:])
    kept = [*range(axis), *range(axis + 1, len(apart))]
    made = _broadcast(tracer, value, apart, kept, stack, layer)
    return _reshape(tracer, made, longer, stack, layer)


def _broadcast(
    tracer: Tracer, value: Value, shape: Shape, kept: Sequence[int], stack: Stack, layer: Layer
) -> Value:
    params = {"shape": shape, "broadcast_dimensions": tuple(kept), "sharding": None}
    return _op(tracer, lax.broadcast_in_dim_p, [value], params, shape, stack, layer)


def _slice(
    tracer: Tracer, value: Value, axis: int, start: int, stop: int, stack: Stack, layer: Layer
) -> Value:
    shape = _shape(value)
    starts, limits = [0] * len(shape), list(shape)
    starts[axis], limits[axis] = start, stop
    params = {"start_indices": tuple(starts), "limit_indices": tuple(limits), "strides": None}
    taken = (*shape[:axis], stop - start, *shape[axis + 1 :])
    return _op(tracer, lax.slice_p, [value], params, taken, stack, layer)


def _reshape(
    tracer: Tracer, value: Value, shape: Sequence[int], stack: Stack, layer: Layer
) -> Value:
    if _shape(value) == tuple(shape):
        return value
    params = {"new_sizes": tuple(shape), "dimensions": None, "sharding": None}
    return _op(tracer, lax.reshape_p, [value], params, tuple(shape), stack, layer)


def _op(
    tracer: Tracer,
    primitive: Any,
    args: Sequence[Value],
    params: dict[str, Any],
    shape: Shape,
    stack: Stack,
    layer: Layer,
) -> Value:
    node, which = args[0]
    aval = jax.ShapeDtypeStruct(shape, node.avals[which].dtype)
    return tracer.node(primitive.name, args, params, (aval,), stack, layer, primitive), 0


def _shape(value: Value) -> Shape:
    return tuple(value[0].avals[value[1]].shape)


HANDLERS: dict[str, Handler] = {
    "split": split,
    "unstack": unstack,
    "stack": stacked,
    "concatenate": concatenate,
    "tile": tile,
    "slice": slice_,
    "convert_element_type": convert,
}
