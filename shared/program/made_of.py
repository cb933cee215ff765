"""How each value of a program is made, layer by layer of a stack, as terms of `distribution.py`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from shared.program.axes import operand_axis
from shared.program.distribution import Place, Term
from shared.program.draws import Draw
from shared.program.evaluate import evaluate, result
from shared.program.graph import Graph, Node, Value, constant_value, needed_for
from shared.program.jax_programs import ELEMENTWISE, REDUCTIONS

# Constants of more numbers than this are compared by how they are computed.
MAX_NUMBERS = 2**22
_SAME_ELEMENTS = {"stop_gradient", "copy"}
_MOVES = {"broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "slice"}


class Terms:
    """How the values of a program are made."""

    def __init__(self, graph: Graph, draws: Mapping[str, Draw]) -> None:
        """Nothing is looked at yet.

        Args:
          graph: a program with its draws as leaves.
          draws: {path: draw} of these leaves.
        """
        self._graph, self._draws = graph, draws
        self._known: dict[tuple[Value, Place], Term] = {}
        self._random: dict[Node, bool] = {}
        for node in graph.nodes:
            of_random = any(self._random[arg] for arg, _ in node.args)
            self._random[node] = of_random or node.op in ("leaf", "input")

    def of(self, value: Value, place: Place) -> Term:
        """How what is at `place` in `value` is made."""
        key = (value, place)
        if key not in self._known:
            self._known[key] = self._made(value, place)
        return self._known[key]

    def _made(self, value: Value, place: Place) -> Term:
        node, _ = value
        if node.op == "constant":
            return _constant(_typed(node), place)
        if node.op == "leaf":
            return self._bits(node, place)
        if node.op == "stack" or node.op == "concatenate":
            return self._one_of(node, place)
        if node.op == "index":
            first = (0, int(node.params["i"]))
            return self.of(node.args[0], (first, *((axis + 1, at) for axis, at in place)))
        if node.op == "view":
            return self.of(node.args[0], _joined(node.params["view"].index, place))
        if node.op in _SAME_ELEMENTS:
            return self.of(node.args[0], place)
        if node.op in ELEMENTWISE or _is_cast_of_bits(node):
            # A number that all elements are computed with has no axes.
            args = [self.of(arg, place if _rank(arg) else ()) for arg in node.args]
            if all(arg.kind == "number" for arg in args):
                return self._computed(node, args)
            return Term("apply", tuple(args), node)
        is_sum_of_one = node.op in REDUCTIONS and _count(node.args[0]) == _count(value)
        if node.op in _MOVES or is_sum_of_one:
            inner = _moved(node, place)
            if inner is not None:
                return self._moved(node, place, inner)
        return self._whole(value, place)

    def _bits(self, node: Node, place: Place) -> Term:
        draw = self._draws[node.params["path"]]
        batch = draw.keys.ndim - 1
        rows = draw.keys[_index(batch, place)].reshape(-1, draw.keys.shape[-1])
        within = tuple((axis - batch, at) for axis, at in place if axis >= batch)
        return Term("bits", (), node, None, frozenset((row.tobytes(), within) for row in rows))

    def _one_of(self, node: Node, place: Place) -> Term:
        """Some of the operands that are put in a row, or all of them."""
        axis = node.params["dimension"] if node.op == "concatenate" else 0
        at = dict(place).get(axis)
        if at is not None and node.op == "stack":
            rest = tuple((a - 1, p) for a, p in place if a != axis)
            return self.of(node.args[at], rest)
        if at is not None:
            for arg in node.args:
                size = arg[0].avals[arg[1]].shape[axis]
                if at < size:
                    return self.of(arg, tuple((a, at if a == axis else p) for a, p in place))
                at -= size
        inner = place if node.op == "concatenate" else tuple((a - 1, p) for a, p in place)
        terms = tuple(self.of(arg, inner) for arg in node.args)
        if len(terms) == 1:
            return terms[0]
        drawn = [frozenset(bits.sources for bits in term.bits) for term in terms if term.bits]
        return Term("joined" if len(set(drawn)) == len(drawn) else "repeated", terms)

    def _moved(self, node: Node, place: Place, inner: Place) -> Term:
        made = self.of(node.args[0], inner)
        if made.kind == "number":
            return made
        if not made.bits:
            return self._whole((node, 0), place)
        if node.op == "broadcast_in_dim":
            of_all = set(range(len(node.avals[0].shape))) - {axis for axis, _ in place}
            new = [a for a in of_all if operand_axis(node, 0, a) is None]
            if any(node.avals[0].shape[axis] > 1 for axis in new):
                return Term("repeated", (made,))
        return made

    def _computed(self, node: Node, args: Sequence[Term]) -> Term:
        scalar = dataclasses.replace(node, avals=tuple(a.update(shape=()) for a in node.avals))
        return Term("number", value=np.asarray(result(scalar, [arg.value for arg in args])[0]))

    def _whole(self, value: Value, place: Place) -> Term:
        """What is computed of arrays; a constant, if they are constants."""
        node, which = value
        if not self._random[node] and _count(value) <= MAX_NUMBERS:
            return _constant(np.asarray(self._fixed(node)[which]), place)
        args = tuple(self.of(arg, ()) for arg in node.args)
        return Term("whole", args, node, place=place)

    def _fixed(self, node: Node) -> tuple[Any, ...]:
        """The results of an operation on constants."""
        return evaluate(needed_for(self._graph, node), {}, (), wide=False)[node]


def _typed(node: Node) -> np.ndarray:
    """A constant in its type: a number of Python's has another one."""
    value, aval = constant_value(node), node.avals[0]
    is_key = jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key)
    return value if is_key else value.astype(aval.dtype)


def _constant(value: np.ndarray, place: Place) -> Term:
    value = np.ascontiguousarray(value[_index(value.ndim, place)])
    flat = value.reshape(-1)
    if value.size and (flat == flat[0]).all():
        return Term("number", value=flat[0])
    return Term("table", value=value)


def _index(rank: int, place: Place) -> tuple:
    at = dict(place)
    return tuple(at.get(axis, slice(None)) for axis in range(rank))


def _joined(first: Sequence[tuple[int, int]], then: Place) -> Place:
    """A place within what is at another place."""
    taken = {axis for axis, _ in first}
    rank = len(taken) + max((axis for axis, _ in then), default=-1) + 1
    left = [axis for axis in range(rank) if axis not in taken]
    return tuple(sorted((*first, *((left[axis], at) for axis, at in then))))


def _moved(node: Node, place: Place) -> Place | None:
    """The place in the operand of what is at `place` in the result; None if it is not known."""
    inner = []
    for axis, at in place:
        where = operand_axis(node, 0, axis)
        if where is not None:
            inner.append((where, at))
        elif node.op == "slice":
            step = node.params["strides"][axis] if node.params["strides"] else 1
            inner.append((axis, node.params["start_indices"][axis] + at * step))
        elif node.op != "broadcast_in_dim" and node.avals[0].shape[axis] > 1:
            return None
    return tuple(sorted(inner))


def _is_cast_of_bits(node: Node) -> bool:
    return node.op == "bitcast_convert_type" and _rank((node, 0)) == _rank(node.args[0])


def _rank(value: Value) -> int:
    return len(value[0].avals[value[1]].shape)


def _count(value: Value) -> int:
    return int(np.prod(value[0].avals[value[1]].shape, dtype=np.int64))
