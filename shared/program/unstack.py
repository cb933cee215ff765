"""Takes apart what is vmapped over stacked weights: each member with operations of its own.

`nn.vmap` computes all members of an ensemble, all experts of a mixture, at once; a port may have a
list of modules instead. Taken apart, both are one program.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax

from shared.program.axes import operand_axis
from shared.program.building import GraphBuilder
from shared.program.graph import Graph, Node, Value
from shared.program.jax_programs import REDUCTIONS
from shared.program.layout import Shape
from shared.program.view import View


def unstack(graph: Graph, axes: Mapping[str, int]) -> Graph:
    """`graph` with the weights at `axes`, {path: axis of the members}, taken apart."""
    unstacker = _Unstacker(axes)
    for node in graph.nodes:
        unstacker.copy(node)
    outputs = [unstacker.whole(output) for output in graph.outputs]
    return dataclasses.replace(unstacker.finish(outputs), roles=graph.roles)


class _Members(NamedTuple):
    """A value in parts, one for each member, without the axis of the members."""

    axis: int
    parts: list[Value]


class _Unstacker(GraphBuilder):
    def __init__(self, axes: Mapping[str, int]) -> None:
        super().__init__()
        self._axes = axes
        self._wholes: dict[Value, Value] = {}
        self._members: dict[Value, _Members] = {}

    def copy(self, node: Node) -> None:
        """Makes the results of `node`."""
        if node.op in ("leaf", "input", "constant"):
            self._wholes[node, 0] = self.start(node.op, node.avals[0], **node.params)
        elif node.op == "view":
            self._wholes[node, 0] = self.view(node.params["view"], node.avals[0], node.stack)
        else:
            axis = self._axis(node)
            made = None if axis is None else self._apart(node, axis)
            if axis is not None and made is not None:
                self._members[node, 0] = _Members(axis, made)
            elif (total := self._summed(node)) is not None:
                self._wholes[node, 0] = total
            else:
                args = [self.whole(arg) for arg in node.args]
                whole = self._like(node, args, node.params, node.avals)
                self._wholes.update({(node, i): (whole, i) for i in range(len(node.avals))})
        if node.op in ("leaf", "view"):
            self._take_apart(node)

    def whole(self, value: Value) -> Value:
        """What was made of `value`; of members, their stack."""
        if value not in self._wholes:
            axis, parts = self._members[value]
            node, which = value
            aval = node.avals[which]
            shape = (*aval.shape[:axis], 1, *aval.shape[axis + 1 :])
            rows = [self._reshape(node, part, shape) for part in parts]
            made = self._op(node, lax.concatenate_p, rows, {"dimension": axis}, aval.shape)
            self._wholes[value] = made
        return self._wholes[value]

    def _take_apart(self, node: Node) -> None:
        """The members of a weight."""
        path = node.params["path"] if node.op == "leaf" else node.params["view"].leaf
        view = View(path) if node.op == "leaf" else node.params["view"]
        if path not in self._axes or self._axes[path] in view.axes:
            return
        axis = next(a for a in range(len(node.avals[0].shape)) if view.axis(a) == self._axes[path])
        shape = node.avals[0].shape
        aval = jax.ShapeDtypeStruct(_without(shape, axis), node.avals[0].dtype)
        views = (
            dataclasses.replace(view, index=(*view.index, (self._axes[path], member)))
            for member in range(shape[axis])
        )
        parts = [self.view(each, aval, node.stack) for each in views]
        self._members[node, 0] = _Members(axis, parts)

    def _axis(self, node: Node) -> int | None:
        """The axis of a result that is that of the members of its operands."""
        found = set()
        for i, arg in enumerate(node.args):
            if arg in self._members:
                found.add(_moved(node, i, self._members[arg].axis))
        axis = found.pop() if len(found) == 1 else None
        return axis if len(node.avals) == 1 else None

    def _apart(self, node: Node, axis: int) -> list[Value] | None:
        """The members of a result; None where an operand cannot be taken apart."""
        count = node.avals[0].shape[axis]
        operands = []
        for i, arg in enumerate(node.args):
            where = operand_axis(node, i, axis)
            if arg in self._members:
                axis_of, parts = self._members[arg]
                if where != axis_of or len(parts) != count:
                    return None  # one that is repeated along it is not a stack of as many
                operands.append(parts)
            elif where is None:
                operands.append([self.whole(arg)] * count)
            else:
                operands.append([self._row(node, arg, where, k) for k in range(count)])
        aval = jax.ShapeDtypeStruct(_without(node.avals[0].shape, axis), node.avals[0].dtype)
        params = _params(node, axis)
        if node.op == "transpose" and list(params["permutation"]) == sorted(params["permutation"]):
            return operands[0]
        if node.op in ("reshape", "broadcast_in_dim") and _shape(operands[0][0]) == aval.shape:
            return operands[0]
        return [
            (self._like(node, args, params, (aval,)), 0) for args in zip(*operands, strict=True)
        ]

    def _summed(self, node: Node) -> Value | None:
        """Of a product that sums over the members the products of each, added up; else None."""
        if node.op != "dot_general":
            return None
        contracted, batched = node.params["dimension_numbers"]
        for axes in zip(*contracted, strict=True):
            if not any(self._is_apart(arg, a) for arg, a in zip(node.args, axes, strict=True)):
                continue
            params = dict(node.params)
            params["dimension_numbers"] = tuple(
                tuple(_shifted([a for a in group[i] if a != axes[i]], axes[i]) for i in (0, 1))
                for group in (contracted, batched)
            )
            operands = [
                self._members[arg].parts
                if self._is_apart(arg, a)
                else [self._row(node, arg, a, k) for k in range(_shape(arg)[a])]
                for arg, a in zip(node.args, axes, strict=True)
            ]
            total, *rest = (
                (self._like(node, args, params, node.avals), 0)
                for args in zip(*operands, strict=True)
            )
            for each in rest:
                total = self._op(node, lax.add_p, [total, each], {}, node.avals[0].shape)
            return total
        return None

    def _is_apart(self, value: Value, axis: int) -> bool:
        return value in self._members and self._members[value].axis == axis

    def _row(self, node: Node, value: Value, axis: int, k: int) -> Value:
        """Row `k` of a value that all members have, along `axis`."""
        shape = _shape(value)
        taken = self.whole(value)
        if shape[axis] > 1:
            starts, limits = [0] * len(shape), list(shape)
            starts[axis], limits[axis] = k, k + 1
            params = {
                "start_indices": tuple(starts),
                "limit_indices": tuple(limits),
                "strides": None,
            }
            row = (*shape[:axis], 1, *shape[axis + 1 :])
            taken = self._op(node, lax.slice_p, [taken], params, row)
        return self._reshape(node, taken, _without(shape, axis))

    def _reshape(self, node: Node, value: Value, shape: Shape) -> Value:
        if _shape(value) == shape:
            return value
        params = {"new_sizes": shape, "dimensions": None, "sharding": None}
        return self._op(node, lax.reshape_p, [value], params, shape)

    def _op(
        self, node: Node, primitive: Any, args: list[Value], params: dict[str, Any], shape: Shape
    ) -> Value:
        """An operation that is there because of `node`."""
        source, which = args[0]
        aval = jax.ShapeDtypeStruct(tuple(shape), source.avals[which].dtype)
        made = self.node(primitive.name, args, params, (aval,), node.stack, node.layer, primitive)
        return made, 0

    def _like(
        self, node: Node, args: Sequence[Value], params: dict[str, Any], avals: Sequence[Any]
    ) -> Node:
        return self.node(node.op, args, params, avals, node.stack, node.layer, node.primitive)


def _moved(node: Node, i: int, axis: int) -> int | None:
    """Where axis `axis` of operand `i` is in the result; None where it is not there."""
    if len(node.avals) != 1:
        return None
    for there in range(len(node.avals[0].shape)):
        if operand_axis(node, i, there) == axis:
            return there
    return None


def _params(node: Node, axis: int) -> dict[str, Any]:
    """The parameters of an operation on operands without the axis of the members."""
    params = dict(node.params)
    shape = _without(node.avals[0].shape, axis)
    where = [operand_axis(node, i, axis) for i in range(len(node.args))]
    if node.op == "transpose":
        taken = where[0]
        order = [a for a in node.params["permutation"] if a != taken]
        params["permutation"] = tuple(_shifted(order, taken))
    elif node.op == "broadcast_in_dim":
        kept = [d for d in node.params["broadcast_dimensions"] if d != axis]
        params.update(shape=shape, broadcast_dimensions=tuple(_shifted(kept, axis)))
    elif node.op in REDUCTIONS:
        params["axes"] = tuple(_shifted(node.params["axes"], where[0]))
    elif node.op == "concatenate":
        params["dimension"] = _shifted([node.params["dimension"]], axis)[0]
    elif node.op == "slice":
        for name in ("start_indices", "limit_indices"):
            params[name] = _without(node.params[name], axis)
    elif node.op == "dot_general":
        contracted, batched = node.params["dimension_numbers"]
        params["dimension_numbers"] = tuple(
            tuple(tuple(_shifted([a for a in group[i] if a != where[i]], where[i])) for i in (0, 1))
            for group in (contracted, batched)
        )
    elif node.op == "squeeze":
        params["dimensions"] = tuple(_shifted(node.params["dimensions"], where[0]))
    elif node.op == "expand_dims":
        params["dimensions"] = tuple(_shifted(node.params["dimensions"], axis))
    elif node.op == "reshape":
        params["new_sizes"] = shape
    return params


def _shifted(axes: Sequence[int], taken: int | None) -> list[int]:
    """`axes` of an array that has lost the axis `taken`."""
    return [axis if taken is None or axis < taken else axis - 1 for axis in axes]


def _without(shape: Sequence[int], axis: int) -> Shape:
    return tuple(size for a, size in enumerate(shape) if a != axis)


def _shape(value: Value) -> Shape:
    return tuple(value[0].avals[value[1]].shape)
