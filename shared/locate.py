"""The first place where two programs part."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.program.canonical import Names, label, params_that_matter, upward
from shared.program.evaluate import Values, evaluate
from shared.program.graph import Graph, Node, View, constant_value, is_start
from shared.program.source import Place, users_place
from shared.weights.weight_map import Entry

# Two float64 values are the same when they differ by less, relative to their size. The programs
# hold their constants in float32, 6e-8 off, which a deep network multiplies; what a mistake does is
# far above, but for a wrong epsilon. That one is seen in the constants themselves.
SAME = 1e-5
SAME_CONSTANT = 1e-6


@dataclasses.dataclass(frozen=True)
class Spot:
    """A place in one of the programs.

    Attributes:
      op: the operation, and its results' shapes.
      layer: the index of each scan around it.
      values: what came out of it, in short.
    """

    file: str
    line: int
    source: str
    op: str
    layer: tuple[int, ...]
    values: str


@dataclasses.dataclass(frozen=True)
class Divergence:
    """Where two programs part, and in what."""

    reason: str
    linen: Spot | None
    nnx: Spot | None


class _Side:
    """A program, the values in it, and which of them the other program has too.

    Attributes:
      twin: for each value the same value of the other program.
      settled: names of values that are known to be as they should.
      conflicts: values that only a constant tells from those of the other program.
    """

    def __init__(self, graph: Graph, up: dict[Node, int], values: Values, settled: frozenset[int]):
        self.graph, self.up, self.values, self.settled = graph, up, values, settled
        self.users: dict[Node, list[Node]] = collections.defaultdict(list)
        self.numbers: set[Node] = set()
        self.by_name: dict[int, Node] = {}
        self.marks: dict[Node, list[Any]] = {}
        self.twin: dict[Node, Node] = {}
        self.conflicts: list[tuple[Node, Node]] = []
        for node in graph.nodes:
            self.by_name.setdefault(up[node], node)
            self.marks[node] = [_mark(value) for value in values[node]]
            for arg, _ in node.args:
                self.users[arg].append(node)
            single = all(aval.size == 1 for aval in node.avals)
            if single and all(arg.op == "constant" or arg in self.numbers for arg, _ in node.args):
                self.numbers.add(node)

    def find_twins(self, other: "_Side") -> None:
        """Finds for each value the same value of the other program."""
        by_size: dict[Any, list[tuple[Node, np.ndarray]]] = collections.defaultdict(list)
        for node, marks in other.marks.items():
            for mark in marks:
                if mark is not None and not is_start(node):
                    by_size[mark[0]].append((node, mark[1]))
        tables = {size: np.stack([sums for _, sums in rows]) for size, rows in by_size.items()}
        for node in self.graph.nodes:
            if self.up[node] in other.by_name:
                self.twin[node] = other.by_name[self.up[node]]
            elif not is_start(node) and node.avals:
                found = [self._near(mark, by_size, tables) for mark in self.marks[node]]
                if all(found):
                    self._choose(node, found[0], other)

    def _choose(self, node: Node, near: list[Node], other: "_Side") -> None:
        """Takes the nearest kin among values that are the same, unless only a constant differs."""
        conflicting = [y for y in near if self._conflict(node, y, other)]
        fitting = [y for y in near if y not in conflicting]
        kin = [y for y in fitting if y.op == node.op]
        if conflicting and not kin:
            self.conflicts.append((node, conflicting[0]))
        else:
            self.twin[node] = (kin or fitting)[0]

    @staticmethod
    def _near(mark: Any, by_size: Mapping[Any, Any], tables: Mapping[Any, Any]) -> list[Node]:
        if mark is None or mark[0] not in tables:
            return []
        table = tables[mark[0]]
        near = np.all(np.abs(table - mark[1]) <= SAME * np.abs(table[:, -1:]), axis=1)
        return [by_size[mark[0]][i][0] for i in np.flatnonzero(near)]

    def _conflict(self, x: Node, y: Node, other: "_Side") -> bool:
        """Whether both are one operation on the same operands, but for a constant."""
        if x.op != y.op or len(x.args) != len(y.args):
            return False
        pairs = [(a, b) for (a, _), (b, _) in zip(x.args, y.args, strict=True)]
        constants = [(a, b) for a, b in pairs if a.op == b.op == "constant"]
        others = [(a, b) for a, b in pairs if not a.op == b.op == "constant"]
        return (
            all(self.up[a] == other.up[b] or self._is_near(a, b, other) for a, b in others)
            and bool(others)
            and not all(_same_constant(a, b) for a, b in constants)
        )

    def _is_near(self, a: Node, b: Node, other: "_Side") -> bool:
        for one, two in zip(self.marks[a], other.marks[b], strict=False):
            if one is None or two is None or one[0] != two[0]:
                return False
            if np.any(np.abs(one[1] - two[1]) > SAME * np.abs(two[1][-1])):
                return False
        return True

    def is_known(self, node: Node) -> bool:
        """Whether the other program has it, or it is given, or a number computed from numbers."""
        return (
            node in self.twin
            or is_start(node)
            or node in self.numbers
            or self.up[node] in self.settled
        )

    def frontier(self, outputs: Sequence[Node]) -> list[Node]:
        """The first values that the other program lacks, on the way to `outputs`."""
        seen: set[Node] = set()
        todo = list(outputs)
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            todo += [arg for arg, _ in node.args if not self.is_known(arg)]
        first = [
            node
            for node in seen
            if not is_start(node) and all(self.is_known(arg) for arg, _ in node.args)
        ]
        return sorted(first, key=lambda node: node.number)

    def parts(self, positions: Sequence[int]) -> list[Node]:
        """The outputs at `positions` that the other program does not have anywhere."""
        nodes = [self.graph.outputs[i][0] for i in positions]
        return [node for node in nodes if node not in self.twin]


def locate(
    linen: Graph,
    nnx: Graph,
    entries: Sequence[Entry],
    linen_leaves: Mapping[str, np.ndarray],
    nnx_leaves: Mapping[str, np.ndarray],
    inputs: Any,
    outputs: Sequence[tuple[int, int]],
    settled: Sequence[Graph] = (),
    stops: bool = False,
) -> Divergence | None:
    """Where the two programs part on these values, or None where their outputs are the same.

    Args:
      linen: the Linen program; nnx: the NNX program.
      entries: which weight is which.
      linen_leaves: {path: array}, random; nnx_leaves: the same numbers by `entries`.
      inputs: of both.
      outputs: (position in Linen, position in NNX) of the outputs that should be equal.
      settled: programs of Linen and of NNX whose values are not to be blamed: for gradients, those
        of the forward pass.
      stops: whether to look for a `stop_gradient` that only one of them has.
    """
    names = Names()
    numbers: tuple[dict[View, int], dict[View, int]] = ({}, {})
    for number, entry in enumerate(entries):
        numbers[0][entry.linen] = numbers[1][entry.nnx] = number
    flat = jax.tree.leaves(inputs)
    sides = []
    for side, graph, leaves in ((0, linen, linen_leaves), (1, nnx, nnx_leaves)):

        def up(graph: Graph, side: int = side) -> dict[Node, int]:
            def name(node: Node) -> Any:
                view = graph.views.get(node, View(node.params.get("path", "")))
                return numbers[side].get(view, (side, view))

            return upward(names, graph, name)

        done = frozenset(up(settled[side]).values()) if settled else frozenset()
        sides.append(_Side(graph, up(graph), evaluate(graph, leaves, flat), done))
    a, b = sides
    a.find_twins(b)
    b.find_twins(a)
    # A gradient that is zero but for rounding is as large as the rounding of the others.
    scale = max(
        (_size(side.values[n][w]) for side in sides for n, w in side.graph.outputs), default=0
    )
    parted = [pair for pair in outputs if not _same_output(a, pair[0], b, pair[1], scale)]
    if a.conflicts:
        x, y = min(a.conflicts, key=lambda pair: pair[0].number)
        return Divergence(_reason(x, y), _spot(a, x), _spot(b, y))
    if not parted:
        return _stopped(a, b) if stops else None
    return _describe(a, b, parted, names)


def _stopped(a: _Side, b: _Side) -> Divergence | None:
    """The first gradient that one of the programs stops and the other does not."""

    def unmatched(one: _Side, other: _Side) -> tuple[Node, Node] | None:
        for node in one.graph.nodes:
            if node.op == "stop_gradient" and node.args[0][0] in one.twin:
                twin = one.twin[node.args[0][0]]
                if not any(user.op == "stop_gradient" for user in other.users[twin]):
                    return node, twin
        return None

    if found := unmatched(b, a):
        return Divergence(
            "NNX stops the gradient, Linen does not", _spot(a, found[1]), _spot(b, found[0])
        )
    if found := unmatched(a, b):
        return Divergence(
            "Linen stops the gradient, NNX does not", _spot(a, found[0]), _spot(b, found[1])
        )
    return None


def _same_output(a: _Side, i: int, b: _Side, k: int, scale: float) -> bool:
    (x, j), (y, m) = a.graph.outputs[i], b.graph.outputs[k]
    return (a.up[x], j) == (b.up[y], m) or _same_in_place(a.values[x][j], b.values[y][m], scale)


def _size(value: Any) -> float:
    if _is_key(value) or np.asarray(value).dtype.kind not in "fc":
        return 0.0
    return float(np.nanmax(np.abs(np.asarray(value)), initial=0.0))


def _same_in_place(x: Any, y: Any, scale: float) -> bool:
    if _is_key(x) or _is_key(y):
        return _is_key(x) and _is_key(y)
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape:
        return False
    if x.dtype.kind not in "fc":
        return bool(np.array_equal(x, y))
    return bool(np.all((np.abs(x - y) <= SAME * scale) | (x == y) | (np.isnan(x) & np.isnan(y))))


def _same_constant(a: Node, b: Node) -> bool:
    x, y = constant_value(a), constant_value(b)
    if x.shape != y.shape or x.dtype.kind != "f" or y.dtype.kind != "f":
        return x.shape != y.shape or bool(np.array_equal(x, y))
    return bool(np.allclose(x.astype(float), y.astype(float), rtol=SAME_CONSTANT, atol=0))


def _describe(a: _Side, b: _Side, parted: Sequence[tuple[int, int]], names: Names) -> Divergence:
    in_linen = a.frontier(a.parts([i for i, _ in parted]))
    in_nnx = b.frontier(b.parts([k for _, k in parted]))
    x, y = _matching(a, in_linen, b, in_nnx)
    if x is None and y is None:
        outputs = [side.graph.outputs[i][0] for side, i in zip((a, b), parted[0], strict=True)]
        reason = "the same values are returned in another arrangement"
        return Divergence(reason, _spot(a, outputs[0]), _spot(b, outputs[1]))
    if x is not None and (y is None or _is_extra(a, x, b, y, names)):
        reason = f"Linen computes {_name(x)}, NNX has nothing in its place"
        return Divergence(reason, _spot(a, x), _spot(b, _where_it_should_be(a, x, b)))
    if y is not None and (x is None or _is_extra(b, y, a, x, names)):
        reason = f"NNX computes {_name(y)}, Linen has nothing in its place"
        return Divergence(reason, _spot(a, _where_it_should_be(b, y, a)), _spot(b, y))
    return Divergence(_reason(x, y), _spot(a, x), _spot(b, y))  # type: ignore[arg-type]


def _matching(
    a: _Side, in_linen: Sequence[Node], b: _Side, in_nnx: Sequence[Node]
) -> tuple[Node | None, Node | None]:
    """The first of each that work on a value that both programs have; else the first of each."""
    for x in in_linen:
        operands = {a.up[arg] for arg, _ in x.args}
        operands |= {b.up[a.twin[arg]] for arg, _ in x.args if arg in a.twin}
        for y in in_nnx:
            if any(b.up[arg] in operands for arg, _ in y.args if arg.op != "constant"):
                return x, y
        return x, None
    return None, next(iter(in_nnx), None)


def _is_extra(a: _Side, x: Node, b: _Side, y: Node, names: Names) -> bool:
    """Whether `y` is not another version of `x` but of what `a` does with `x`."""
    if x.op == y.op:
        return False
    takes_over = any(b.twin.get(arg) is not None for arg, _ in y.args)
    return takes_over and any(label(names, user) == label(names, y) for user in a.users[x])


def _where_it_should_be(a: _Side, x: Node, b: _Side) -> Node | None:
    """What in `b` comes before the operation that `b` lacks."""
    twins = [a.twin[arg] for arg, _ in x.args if arg in a.twin]
    computed = [node for node in twins if not is_start(node)]
    return max(computed or twins, key=lambda node: node.number, default=None)


def _reason(x: Node, y: Node) -> str:
    if x.op != y.op:
        return f"{_name(x)} in Linen, {_name(y)} in NNX"
    first, second = params_that_matter(x), params_that_matter(y)
    changed = [
        f"{key}={first.get(key)} in Linen, {second.get(key)} in NNX"
        for key in sorted(first.keys() | second.keys())
        if str(first.get(key)) != str(second.get(key))
    ]
    constants = [
        [constant_value(arg) for arg, _ in node.args if arg.op == "constant"] for node in (x, y)
    ]
    for one, other in zip(*constants, strict=False):
        if one.size == other.size == 1 and one != other:
            changed.append(f"{one.item():g} in Linen, {other.item():g} in NNX")
    return f"{x.op}: " + ("; ".join(changed) if changed else "on other operands")


def _name(node: Node) -> str:
    shapes = ", ".join(str(tuple(aval.shape)) for aval in node.avals)
    return f"{node.op} {shapes}"


def _spot(side: _Side, node: Node | None) -> Spot | None:
    if node is None:
        return None
    place = _place(side, node)
    if place is None:
        return None
    value = np.asarray(side.values[node][0]) if not _is_key(side.values[node][0]) else None
    summary = ""
    if value is not None and value.size and value.dtype.kind in "fiu":
        summary = f"min {value.min():.6g}, mean {value.mean():.6g}, max {value.max():.6g}"
    return Spot(place.file, place.line, place.source, _name(node), node.layer, summary)


def _place(side: _Side, node: Node) -> Place | None:
    """Where `node` was written; of a weight or an input, where it is used."""
    for candidate in (node, *side.users[node]):
        place = users_place(candidate.stack)
        if place is not None:
            return place
    return None


def _mark(value: Any) -> tuple[Any, np.ndarray] | None:
    """What tells a value from others in any order of its elements; None if that is little."""
    if _is_key(value):
        return None
    x = np.asarray(value).reshape(-1)
    if x.size < 2 or x.dtype.kind not in "fiub":
        return None
    x = np.sort(x.astype(np.float64))
    weights = _weights(x.size)
    with np.errstate(all="ignore"):
        sums = np.array([x @ weights[0], x @ weights[1], np.abs(x).sum()])
    if not np.isfinite(sums).all():
        return None
    return (x.size, np.asarray(value).dtype.kind in "f"), sums


def _weights(size: int) -> np.ndarray:
    return np.random.default_rng(size).standard_normal((2, size))


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
