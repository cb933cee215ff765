"""Which axis of an operand an axis of a result comes from."""

import math

from shared.program.canonical import only_reshapes
from shared.program.graph import Node, Value
from shared.program.jax_programs import ELEMENTWISE, REDUCTIONS
from shared.program.layout import Shape


def operand_axis(node: Node, i: int, axis: int) -> int | None:
    """Which axis of operand `i` axis `axis` of the result comes from, element by element."""
    operand, shape = _shape(node.args[i]), tuple(node.avals[0].shape)
    if node.op in ELEMENTWISE:
        return axis if len(operand) == len(shape) else None
    if node.op == "transpose":
        return int(node.params["permutation"][axis])
    if node.op == "broadcast_in_dim":
        dimensions = tuple(node.params["broadcast_dimensions"])
        if axis not in dimensions:
            return None
        where = dimensions.index(axis)
        return where if operand[where] == shape[axis] else None
    if node.op in REDUCTIONS:
        kept = [a for a in range(len(operand)) if a not in node.params["axes"]]
        return kept[axis]
    if node.op == "concatenate":
        return axis if axis != node.params["dimension"] else None
    if node.op == "slice" and not node.params["strides"]:
        return axis if operand[axis] == shape[axis] else None
    if node.op == "dot_general":
        return _product_axis(node, i, axis)
    if only_reshapes(node):
        return _reshaped_axis(operand, shape, axis)
    return None


def _product_axis(node: Node, i: int, axis: int) -> int | None:
    contracted, batched = node.params["dimension_numbers"]
    if axis < len(batched[0]):
        return int(batched[i][axis])
    axis -= len(batched[0])
    for side, arg in enumerate(node.args):
        used = {*contracted[side], *batched[side]}
        free = [a for a in range(len(_shape(arg))) if a not in used]
        if axis < len(free):
            return free[axis] if side == i else None
        axis -= len(free)
    return None


def _reshaped_axis(before: Shape, after: Shape, axis: int) -> int | None:
    """The axis of `before` that is axis `axis` of `after`, with as much in front of it."""
    front = math.prod(after[:axis])
    places = [
        where
        for where, size in enumerate(before)
        if size == after[axis] and math.prod(before[:where]) == front
    ]
    return places[0] if after[axis] > 1 and places else None


def _shape(value: Value) -> Shape:
    return tuple(value[0].avals[value[1]].shape)
