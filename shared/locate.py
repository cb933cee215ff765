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

# Two float64 values are the same when they differ by less, relative to their size. Rounding is at
# 1e-16 for an operation; what an epsilon of 1e-5 for 1e-6 does is at 1e-6.
SAME = 1e-9


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
    """A program, the values in it, and which of them the other program has too."""

    def __init__(self, graph: Graph, up: dict[Node, int], values: Values):
        self.graph, self.up, self.values = graph, up, values
        self.users: dict[Node, list[Node]] = collections.defaultdict(list)
        for node in graph.nodes:
            for arg, _ in node.args:
                self.users[arg].append(node)
        self.by_name: dict[int, Node] = {}
        self.marks: dict[Node, tuple[Any, ...] | None] = {}
        self.by_size: dict[Any, list[tuple[Node, np.ndarray]]] = collections.defaultdict(list)
        for node in graph.nodes:
            self.by_name.setdefault(up[node], node)
            for which in range(len(node.avals)):
                mark = _mark(values[node][which])
                if mark is not None:
                    self.by_size[mark[0]].append((node, mark[1]))
        self.twin: dict[Node, Node] = {}

    def find_twins(self, other: "_Side") -> None:
        """For each value, the value of the other program that is the same."""
        tables = {
            size: (np.stack([mark for _, mark in rows]), [node for node, _ in rows])
            for size, rows in other.by_size.items()
        }
        for node in self.graph.nodes:
            if self.up[node] in other.by_name:
                self.twin[node] = other.by_name[self.up[node]]
                continue
            if is_start(node) or not node.avals:
                continue
            found = [self._same_value(value, tables) for value in self.values[node]]
            if all(twin is not None for twin in found):
                self.twin[node] = found[0]  # type: ignore[assignment]

    @staticmethod
    def _same_value(value: Any, tables: Mapping[Any, Any]) -> Node | None:
        mark = _mark(value)
        if mark is None or mark[0] not in tables:
            return None
        table, nodes = tables[mark[0]]
        near = np.all(np.abs(table - mark[1]) <= SAME * np.abs(table[:, -1:]), axis=1)
        return nodes[int(np.argmax(near))] if near.any() else None

    def frontier(self, outputs: Sequence[Node]) -> list[Node]:
        """The first values that the other program lacks, on the way to `outputs`."""
        seen: set[Node] = set()
        todo = list(outputs)
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            todo += [arg for arg, _ in node.args if arg not in self.twin and not is_start(arg)]
        first = [
            node
            for node in seen
            if not is_start(node) and all(arg in self.twin or is_start(arg) for arg, _ in node.args)
        ]
        return sorted(first, key=lambda node: node.number)

    def parts(self, other: "_Side", positions: Sequence[int]) -> list[Node]:
        """The outputs at `positions` that are not the same value in the other program."""
        return [
            self.graph.outputs[i][0] for i in positions if self.graph.outputs[i][0] not in self.twin
        ]


def locate(
    linen: Graph,
    nnx: Graph,
    entries: Sequence[Entry],
    linen_leaves: Mapping[str, np.ndarray],
    nnx_leaves: Mapping[str, np.ndarray],
    inputs: Any,
) -> Divergence | None:
    """Where the two programs part on these values, or None where their outputs are the same.

    Args:
      linen: the Linen program; nnx: the NNX program.
      entries: which weight is which.
      linen_leaves: {path: array}, random; nnx_leaves: the same numbers by `entries`.
      inputs: of both.
    """
    names = Names()
    numbers: tuple[dict[View, int], dict[View, int]] = ({}, {})
    for number, entry in enumerate(entries):
        numbers[0][entry.linen] = numbers[1][entry.nnx] = number
    flat = jax.tree.leaves(inputs)
    sides = []
    for graph, leaves, numbered, side in (
        (linen, linen_leaves, numbers[0], "linen"),
        (nnx, nnx_leaves, numbers[1], "nnx"),
    ):

        def name(node: Node, graph=graph, numbered=numbered, side=side) -> Any:
            view = graph.views.get(node, View(node.params.get("path", "")))
            return numbered.get(view, (side, view))

        sides.append(_Side(graph, upward(names, graph, name), evaluate(graph, leaves, flat)))
    a, b = sides
    a.find_twins(b)
    b.find_twins(a)
    positions = _different_outputs(a, b)
    if not positions:
        return None
    return _describe(a, b, positions, names)


def _different_outputs(a: _Side, b: _Side) -> list[int]:
    different = []
    for i, ((x, j), (y, k)) in enumerate(zip(a.graph.outputs, b.graph.outputs, strict=True)):
        if a.up[x] == b.up[y] and j == k:
            continue
        if not _same_in_place(a.values[x][j], b.values[y][k]):
            different.append(i)
    return different


def _same_in_place(x: Any, y: Any) -> bool:
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape:
        return False
    if x.dtype.kind not in "fc":
        return bool(np.array_equal(x, y))
    scale = np.max(np.abs(x), initial=0.0)
    return bool(np.all((np.abs(x - y) <= SAME * scale) | (x == y) | (np.isnan(x) & np.isnan(y))))


def _describe(a: _Side, b: _Side, positions: list[int], names: Names) -> Divergence:
    in_linen = a.frontier(a.parts(b, positions))
    in_nnx = b.frontier(b.parts(a, positions))
    x = in_linen[0] if in_linen else None
    y = in_nnx[0] if in_nnx else None
    if x is None and y is None:
        outputs = [side.graph.outputs[positions[0]][0] for side in (a, b)]
        reason = "the same values are returned in another arrangement"
        return Divergence(reason, _spot(a, outputs[0]), _spot(b, outputs[1]))
    if x is not None and (y is None or _is_extra(a, x, b, y, names)):
        reason = f"Linen computes {_name(x)}, NNX has nothing in its place"
        return Divergence(reason, _spot(a, x), _spot(b, _where_it_should_be(a, x, b)))
    if y is not None and (x is None or _is_extra(b, y, a, x, names)):
        reason = f"NNX computes {_name(y)}, Linen has nothing in its place"
        return Divergence(reason, _spot(a, _where_it_should_be(b, y, a)), _spot(b, y))
    return Divergence(_reason(x, y), _spot(a, x), _spot(b, y))  # type: ignore[arg-type]


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
