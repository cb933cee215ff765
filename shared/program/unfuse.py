"""Cuts weights where a program cuts what it computes with them.

One dense layer whose result is split in three is three dense layers with a third of the kernel
each; three kernels joined before they are used are three kernels. Cut so, a fused model and one
with separate weights are one program. Sums of other lengths may round otherwise: the cut program
tells which weight is which, the original one what it computes.
"""

import dataclasses
import math
from typing import Any

import jax
from jax import lax

from shared.program.axes import operand_axis
from shared.program.building import GraphBuilder
from shared.program.graph import Graph, Node, Value
from shared.program.jax_programs import ELEMENTWISE


def unfuse(graph: Graph) -> Graph:
    """`graph` with every slice of a value taken of the weights that the value is made of."""
    cutter = _Cutter()
    made: dict[Value, Value] = {}
    for node in graph.nodes:
        args = [made[arg] for arg in node.args]
        made.update({(node, i): value for i, value in enumerate(cutter.copy(node, args))})
    cut = cutter.finish([made[output] for output in graph.outputs])
    return dataclasses.replace(cut, roles=graph.roles)


# Operations through which a part of the result is computed of parts of the operands.
_CUT = {
    *ELEMENTWISE,
    *("concatenate", "transpose", "broadcast_in_dim", "dot_general", "reshape", "squeeze"),
}


class _Cutter(GraphBuilder):
    def __init__(self) -> None:
        super().__init__()
        self._taken: dict[tuple[Value, int, int, int], Value] = {}
        # Of each value, the axes that are axes of a weight that it is computed from.
        self._cuttable: dict[Node, set[int]] = {}

    def node(self, *args: Any, **more: Any) -> Node:
        made = super().node(*args, **more)
        if len(made.avals) == 1:
            self._cuttable[made] = {
                axis
                for axis in range(len(made.avals[0].shape))
                for i, where in _operands(made, axis).items()
                if self._leads_to_weight(made.args[i], where)
            }
        return made

    def _leads_to_weight(self, value: Value, axis: int) -> bool:
        return value[0] in self.views or axis in self._cuttable.get(value[0], ())

    def copy(self, node: Node, args: list[Value]) -> list[Value]:
        """The results of `node`, on other operands."""
        if node.op in ("leaf", "input", "constant"):
            return [self.start(node.op, node.avals[0], **node.params)]
        if node.op == "view":
            return [self.view(node.params["view"], node.avals[0], node.stack)]
        if node.op == "slice" and not node.params["strides"]:
            (value,) = args
            limits = zip(node.params["start_indices"], node.params["limit_indices"], strict=True)
            for axis, (start, stop) in enumerate(limits):
                value = self.take(value, axis, start, stop, node)
            return [value]
        made = self.node(
            node.op, args, node.params, node.avals, node.stack, node.layer, node.primitive
        )
        return [(made, i) for i in range(len(node.avals))]

    def take(self, value: Value, axis: int, start: int, stop: int, by: Node) -> Value:
        """`value[start:stop]` along `axis`, taken of its operands if that cuts a weight."""
        if (start, stop) == (0, _aval(value).shape[axis]):
            return value
        key = (value, axis, start, stop)
        if key not in self._taken:
            self._taken[key] = self._take(value, axis, start, stop, by)
        return self._taken[key]

    def _take(self, value: Value, axis: int, start: int, stop: int, by: Node) -> Value:
        node, _ = value
        if node in self.views:
            view = self.views[node]
            aval = _resized(_aval(value), axis, stop - start)
            return self.view(view.take(axis, start, stop), aval, by.stack)
        if not self._leads_to_weight(value, axis):
            return self._slice(value, axis, start, stop, by)
        if node.op == "concatenate" and node.params["dimension"] == axis:
            return self._take_joined(node, axis, start, stop, by)
        operands = _operands(node, axis)
        size = _aval(value).shape[axis]
        args = list(node.args)
        for i, where in operands.items():
            factor = _aval(args[i]).shape[where] // size
            args[i] = self.take(args[i], where, start * factor, stop * factor, by)
        aval = _resized(node.avals[0], axis, stop - start)
        params = dict(node.params)
        for name in ("shape", "new_sizes"):
            if name in params:
                params[name] = tuple(aval.shape)
        made = self.node(node.op, args, params, (aval,), node.stack, node.layer, node.primitive)
        return made, 0

    def _take_joined(self, node: Node, axis: int, start: int, stop: int, by: Node) -> Value:
        pieces, before = [], 0
        for arg in node.args:
            size = _aval(arg).shape[axis]
            low, high = max(start - before, 0), min(stop - before, size)
            if low < high:
                pieces.append(self.take(arg, axis, low, high, by))
            before += size
        if len(pieces) == 1:
            return pieces[0]
        aval = _resized(node.avals[0], axis, stop - start)
        made = self.node(
            node.op, pieces, node.params, (aval,), node.stack, node.layer, node.primitive
        )
        return made, 0

    def _slice(self, value: Value, axis: int, start: int, stop: int, by: Node) -> Value:
        aval = _aval(value)
        starts = [0] * len(aval.shape)
        limits = list(aval.shape)
        starts[axis], limits[axis] = start, stop
        params = {"start_indices": tuple(starts), "limit_indices": tuple(limits), "strides": None}
        resized = _resized(aval, axis, stop - start)
        return self.node("slice", [value], params, (resized,), by.stack, by.layer, lax.slice_p), 0


def _operands(node: Node, axis: int) -> dict[int, int]:
    """{operand: its axis} of those that a part of `axis` of the result is a part of.

    An axis of the operand that is longer than that of the result is cut in as many equal parts.
    """
    if len(node.avals) != 1 or node.op not in _CUT:
        return {}
    args, shape = [_aval(arg) for arg in node.args], tuple(node.avals[0].shape)
    if node.op == "concatenate":
        return dict.fromkeys(range(len(args)), axis)
    if node.op in ("reshape", "squeeze"):
        return _reshape_operand(tuple(args[0].shape), shape, axis)
    where = {i: operand_axis(node, i, axis) for i in range(len(args))}
    return {
        i: own for i, own in where.items() if own is not None and args[i].shape[own] == shape[axis]
    }


def _reshape_operand(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> dict[int, int]:
    """The axis whose first factor is `axis`: (6, 8) to (6, 2, 4) has axis 1 of axis 1."""
    for where, size in enumerate(before):
        if size == 1 or math.prod(before[:where]) != math.prod(after[:axis]):
            continue
        # All of the axis is in `axis` and the axes behind it that make up the rest.
        rest = 1
        for behind in after[axis:]:
            rest *= behind
            if rest == size:
                return {0: where}
    return {}


def _aval(value: Value) -> Any:
    return value[0].avals[value[1]]


def _resized(aval: Any, axis: int, size: int) -> jax.ShapeDtypeStruct:
    shape = list(aval.shape)
    shape[axis] = size
    return jax.ShapeDtypeStruct(tuple(shape), aval.dtype)
