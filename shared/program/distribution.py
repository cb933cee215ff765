"""From which distribution a value of a program is, and from which random numbers it is made.

Initialisers compute each number from random bits of its own, and all numbers in one way. What they
are drawn from is then the function from bits to a number, whatever the shape is: a kernel that is
made for all layers at once is from the distribution of kernels that are made one by one.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.program.axes import operand_axis
from shared.program.canonical import Names, frozen, params_that_matter
from shared.program.draws import Draw
from shared.program.evaluate import evaluate, result
from shared.program.graph import Graph, Node, Value, constant_value, needed_for
from shared.program.jax_programs import COMMUTATIVE, ELEMENTWISE, REDUCTIONS

# Constants of more numbers than this are compared by how they are computed.
MAX_NUMBERS = 2**22
_SAME_ELEMENTS = {"stop_gradient", "copy"}
_MOVES = {"broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "slice"}

# (axis, position) of each axis of which one position is meant, in order.
Place = tuple[tuple[int, int], ...]
# A key, and what is meant of what is drawn of it.
Source = tuple[bytes, tuple]


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """How the numbers of a value are made, one as the other.

    Attributes:
      kind: "number": a constant; "table": a constant array; "bits": random ones; "apply": an
        operation element by element; "joined": some of `args` each; "repeated": the same, and some
        of what is drawn several times; "whole": an operation on arrays, or what a call is given.
      args: of what it is made.
      node: the operation.
      value: of a constant.
      sources: of which keys the bits are drawn, or what stands for that; `node` is their leaf.
      place: what of the result of an operation on arrays is meant.
    """

    kind: str
    args: tuple["Term", ...] = ()
    node: Node | None = None
    value: Any = None
    sources: frozenset[Source] = frozenset()
    place: Place = ()

    def all(self) -> Iterator["Term"]:
        """This and what it is made of, each once."""
        seen, todo = set(), [self]
        while todo:
            term = todo.pop()
            if id(term) not in seen:
                seen.add(id(term))
                yield term
                todo += reversed(term.args)

    @property
    def bits(self) -> list["Term"]:
        """The random bits that it is made of."""
        return [term for term in self.all() if term.kind == "bits"]

    @property
    def is_repeated(self) -> bool:
        """Whether some numbers are drawn once and are there several times."""
        return any(term.kind == "repeated" for term in self.all())

    @property
    def is_elementwise(self) -> bool:
        """Whether each number is made of bits of its own, and all in one way."""
        return all(term.kind in ("number", "bits", "apply") for term in self.all())


def name_of(names: Names, term: Term) -> int:
    """The name of a distribution: equal names are equal distributions."""
    numbers: dict[frozenset[Source], int] = {}
    known: dict[int, int] = {}

    def name(term: Term) -> int:
        if id(term) not in known:
            known[id(term)] = names(term.kind, *_said_of(term))
        return known[id(term)]

    def _said_of(term: Term) -> tuple:
        if term.kind in ("number", "table"):
            return term.value.shape, str(term.value.dtype), term.value.tobytes()
        if term.kind == "bits":
            assert term.node is not None
            number = numbers.setdefault(term.sources, len(numbers))
            return number, str(term.node.avals[0].dtype)
        args = [name(arg) for arg in term.args]
        if term.kind in ("joined", "repeated"):
            # Rows that are drawn alike are drawn as one row would be.
            return tuple(args)
        assert term.node is not None
        if term.kind == "apply":
            args = sorted(args) if term.node.op in COMMUTATIVE else args
            return term.node.op, frozen(params_that_matter(term.node)), *args
        shapes = tuple(tuple(arg.avals[which].shape) for arg, which in term.node.args)
        return term.node.op, frozen(params_that_matter(term.node)), shapes, term.place, *args

    return name(term)


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


def numbers(term: Term, bits: Mapping[frozenset[Source], np.ndarray]) -> np.ndarray:
    """Numbers made as `term` says, of given bits; one for each.

    Args:
      term: one that `is_elementwise`.
      bits: {sources: bits of the type that is drawn of them}, all of one length.
    """
    known: dict[int, np.ndarray] = {}
    count = len(next(iter(bits.values())))

    def made(term: Term) -> np.ndarray:
        if id(term) not in known:
            if term.kind == "number":
                known[id(term)] = np.full(count, term.value)
            elif term.kind == "bits":
                known[id(term)] = bits[term.sources]
            else:
                assert term.node is not None
                avals = tuple(a.update(shape=(count,)) for a in term.node.avals)
                node = dataclasses.replace(term.node, avals=avals)
                known[id(term)] = np.asarray(result(node, [made(arg) for arg in term.args])[0])
        return known[id(term)]

    return np.asarray(jnp.asarray(made(term)), np.float64)
