"""Lays weights out as a program uses them, and its products as products of matrices.

A dense layer with a kernel of shape (8, 2, 4) is one with a kernel of shape (8, 8) whose results
are reshaped; `x @ kernel.T` is one with the kernel transposed. Laid out so, a layer that has its
heads in its kernel and one that makes them of its results are one program.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from shared.program.building import GraphBuilder
from shared.program.canonical import only_reshapes
from shared.program.graph import Graph, Node, Value
from shared.program.jax_programs import ELEMENTWISE
from shared.program.layout import Shape, Step, Steps, shape_after


def flatten(graph: Graph) -> Graph:
    """`graph` with its products as products of matrices, and its reshapes as late as can be."""
    flattener = _Flattener()
    for node in graph.nodes:
        flattener.copy(node)
    outputs = [flattener.shaped(output) for output in graph.outputs]
    return dataclasses.replace(flattener.finish(outputs), roles=graph.roles)


class _Flattener(GraphBuilder):
    def __init__(self) -> None:
        super().__init__()
        # The same numbers in the same order, perhaps in another shape.
        self._made: dict[Value, Value] = {}

    def copy(self, node: Node) -> None:
        """Makes the results of `node`."""
        if node.op in ("leaf", "input", "constant"):
            self._made[node, 0] = self.start(node.op, node.avals[0], **node.params)
        elif node.op == "view":
            self._made[node, 0] = self.view(node.params["view"], node.avals[0], node.stack)
        elif only_reshapes(node):
            self._made[node, 0] = self._made[node.args[0]]
        elif node.op == "transpose" and self._is_weight(self._made[node.args[0]]):
            step = Step("transpose", tuple(node.params["permutation"]))
            self._made[node, 0] = self._laid_out(self.shaped(node.args[0]), (step,))
        elif node.op == "broadcast_in_dim":
            self._made[node, 0] = self._repeated(node)
        elif node.op == "dot_general" and (which := self._weight_of(node)) is not None:
            self._made[node, 0] = self._product(node, which)
        elif node.op in ELEMENTWISE and len(node.avals) == 1:
            self._made[node, 0] = self._elementwise(node)
        else:
            args = [self.shaped(arg) for arg in node.args]
            made = self._like(node, args, node.avals)
            self._made.update({(node, i): (made, i) for i in range(len(node.avals))})

    def shaped(self, value: Value) -> Value:
        """What was made of `value`, in its shape."""
        return self._reshaped(self._made[value], _shape(value))

    def _like(self, node: Node, args: Sequence[Value], avals: Sequence[Any], **params: Any) -> Node:
        return self.node(
            node.op,
            args,
            {**node.params, **params},
            avals,
            node.stack,
            node.layer,
            node.primitive,
        )

    def _reshaped(self, value: Value, shape: Shape) -> Value:
        if _shape(value) == shape:
            return value
        node, which = value
        if node.op == "reshape":
            return self._reshaped(node.args[0], shape)
        if self._is_weight(value):
            # One weight may be taken in several shapes that axes of length one tell apart.
            without = tuple(size for size in shape if size > 1)
            if _shape(value) != without:
                value = self._laid_out(value, (Step("reshape", without),))
            if shape == without:
                return value
            node, which = value
        aval = jax.ShapeDtypeStruct(shape, node.avals[which].dtype)
        params = {"new_sizes": shape, "dimensions": None, "sharding": None}
        made = self.node("reshape", [value], params, (aval,), node.stack, node.layer, lax.reshape_p)
        return made, 0

    def _is_weight(self, value: Value) -> bool:
        """Whether a value is a weight, or a cast of one."""
        node, _ = value
        is_cast = node.op == "convert_element_type" and self._is_weight(node.args[0])
        return node in self.views or is_cast

    def _laid_out(self, value: Value, steps: Steps) -> Value:
        """A weight, or a cast of one, laid out anew."""
        node, _ = value
        aval = jax.ShapeDtypeStruct(shape_after(_shape(value), steps), node.avals[0].dtype)
        if node not in self.views:
            return self._like(node, [self._laid_out(node.args[0], steps)], (aval,)), 0
        view = self.views[node]
        leaf = node if node.op == "leaf" else node.args[0][0]
        return self.view(view.then(steps, leaf.avals[0].shape), aval, node.stack)

    def _repeated(self, node: Node) -> Value:
        """A broadcast without axes of length one: weights of (6,) and (1, 1, 6) are alike."""
        before, after = _shape(node.args[0]), tuple(node.params["shape"])
        places = zip(node.params["broadcast_dimensions"], before, strict=True)
        operand = self._reshaped(self._made[node.args[0]], tuple(s for s in before if s > 1))
        axes = [axis for axis, size in enumerate(after) if size > 1]
        shape = tuple(after[axis] for axis in axes)
        aval = jax.ShapeDtypeStruct(shape, node.avals[0].dtype)
        kept = tuple(axes.index(axis) for axis, size in places if size > 1)
        return self._like(node, [operand], (aval,), shape=shape, broadcast_dimensions=kept), 0

    def _weight_of(self, node: Node) -> int | None:
        """Which operand of a product is a weight, the last one if both are."""
        _, batched = node.params["dimension_numbers"]
        if any(batched):
            return None
        weights = [i for i, arg in enumerate(node.args) if self._is_weight(self._made[arg])]
        return max(weights, default=None)

    def _product(self, node: Node, which: int) -> Value:
        """A product with a weight as that of a matrix, (contracted, free), from the right."""
        contracted, _ = node.params["dimension_numbers"]
        x, w = node.args[1 - which], node.args[which]
        pairs = sorted(zip(contracted[1 - which], contracted[which], strict=True))
        free_x, free_w = (
            tuple(axis for axis in range(len(_shape(arg))) if axis not in contracted[i])
            for i, arg in ((1 - which, x), (which, w))
        )
        rows = tuple(_shape(x)[axis] for axis in free_x)
        columns = tuple(_shape(w)[axis] for axis in free_w)
        inner = math.prod(_shape(x)[axis] for axis, _ in pairs)
        order = (*(axis for _, axis in pairs), *free_w)
        steps = Step("transpose", order), Step("reshape", (inner, math.prod(columns)))
        weight = self._laid_out(self.shaped(w), steps)
        moved = self._transposed(node, self._made[x], _shape(x), (*free_x, *(a for a, _ in pairs)))
        operand = self._reshaped(moved, (*rows, inner))
        aval = jax.ShapeDtypeStruct((*rows, math.prod(columns)), node.avals[0].dtype)
        numbers = (((len(rows),), (0,)), ((), ()))
        made = self._like(node, [operand, weight], (aval,), dimension_numbers=numbers), 0
        if which == 1:
            return made
        turned = (*range(len(rows), len(rows) + len(columns)), *range(len(rows)))
        return self._transposed(node, made, (*rows, *columns), turned)

    def _transposed(self, node: Node, value: Value, shape: Shape, order: Sequence[int]) -> Value:
        """`value`, which stands for one of `shape`, with its axes in another order."""
        if list(order) == sorted(order):
            return value
        reshaped = self._reshaped(value, shape)
        if self._is_weight(reshaped):
            return self._laid_out(reshaped, (Step("transpose", tuple(order)),))
        dtype = reshaped[0].avals[reshaped[1]].dtype
        aval = jax.ShapeDtypeStruct(tuple(shape[axis] for axis in order), dtype)
        params = {"permutation": tuple(order)}
        made = self.node(
            "transpose", [reshaped], params, (aval,), node.stack, node.layer, lax.transpose_p
        )
        return made, 0

    def _elementwise(self, node: Node) -> Value:
        """The operation in the shape of one of its operands, so that its result is reshaped."""
        shape = tuple(node.avals[0].shape)
        operands = [(arg, self._made[arg]) for arg in node.args]
        whole = [_shape(made) for arg, made in operands if _shape(arg) == shape]
        for base in sorted(whole, key=len):
            shapes = [_within(_shape(arg), shape, base) for arg in node.args]
            if None not in shapes:
                args = [
                    self._reshaped(made, each)
                    for (_, made), each in zip(operands, shapes, strict=True)
                    if each is not None
                ]
                aval = jax.ShapeDtypeStruct(base, node.avals[0].dtype)
                return self._like(node, args, (aval,)), 0
        return self._like(node, [self.shaped(arg) for arg in node.args], node.avals), 0


def _within(own: Shape, shape: Shape, base: Shape) -> Shape | None:
    """The shape in which an operand of `own` shape fits one of `base`, which `shape` is now.

    Axes of length one are for every element of the other; None if they do not fit so.
    """
    if own in ((), shape):
        return own if own != shape else base
    if len(own) != len(shape):
        return None
    fitting, axis = [], 0
    for size in base:
        first = axis
        while axis < len(shape) and math.prod(shape[first:axis]) < size:
            axis += 1
        if math.prod(shape[first:axis]) != size:
            return None
        if own[first:axis] == shape[first:axis]:
            fitting.append(size)
        elif all(each == 1 for each in own[first:axis]):
            fitting.append(1)
        else:
            return None
    return tuple(fitting) if all(each == 1 for each in shape[axis:]) else None


def _shape(value: Value) -> Shape:
    return tuple(value[0].avals[value[1]].shape)
