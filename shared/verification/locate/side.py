"""One of the two programs, the values in it, and which of them the other program has too."""

import collections
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shared.program.canonical import only_reshapes
from shared.program.evaluate import Values
from shared.program.graph import Graph, Node, Value, is_start
from shared.verification.locate.values import (
    SAME,
    ValueTable,
    is_guard,
    is_key,
    mark_of,
    same_constant,
)


class Side:
    """A program, the values in it, and which of them the other program has too.

    Attributes:
      count: how many values have each name.
      twin: for each value the same value of the other program.
      settled: names of values that are known to be as they should.
      of_weights: weights, and what is only one of them: reshaped, cast.
      fixed: what neither inputs nor weights have a say in: positions, a causal mask.
      held: of these the numbers that the other program has too, perhaps of another dtype.
      name_of: the name of each value, equal for equal values of both programs.
      suspects: operations on the same operands, but for a constant, with other values.
      conflicts: values that only a constant tells from those of the other program.
      compared: the outputs that both programs have, and what they need.
      casts: whether casts to less than float32 round in `values`.
    """

    def __init__(
        self,
        graph: Graph,
        name_of: dict[Node, int],
        values: Values,
        settled: frozenset[int],
        outputs: Iterable[Value],
        casts: bool = True,
    ):
        self.graph, self.name_of, self.values, self.settled = graph, name_of, values, settled
        self.casts = casts
        self.users: dict[Node, list[Node]] = collections.defaultdict(list)
        self.numbers: set[Node] = set()
        self.of_weights: set[Node] = set(graph.views)
        self.fixed: set[Node] = set()
        self.held: set[Node] = set()
        self.by_name: dict[int, Node] = {}
        self.count = collections.Counter(
            name_of[node] for node in graph.nodes if not only_reshapes(node)
        )
        self.marks: dict[Node, list[Any]] = {}
        self.twin: dict[Node, Node] = {}
        self.conflicts: list[tuple[Node, Node]] = []
        self.suspects: list[tuple[Node, Node]] = []
        self.compared = {node for node, _ in outputs}
        for node in reversed(graph.nodes):
            if node in self.compared:
                self.compared.update(arg for arg, _ in node.args)
        for node in graph.nodes:
            self.by_name.setdefault(name_of[node], node)
            self.marks[node] = [mark_of(value) for value in values[node]]
            for arg, _ in node.args:
                self.users[arg].append(node)
            sources = [arg for arg, _ in node.args if arg.op != "constant"]
            if len(sources) == 1 and sources[0] in self.of_weights:
                self.of_weights.add(node)
            if node.op == "constant" or not (is_start(node) or set(sources) - self.fixed):
                self.fixed.add(node)
            single = all(aval.size == 1 for aval in node.avals)
            if single and all(arg.op == "constant" or arg in self.numbers for arg, _ in node.args):
                self.numbers.add(node)

    def with_values(self, values: Values) -> "Side":
        """The same program with other values in it."""
        outputs = [(node, 0) for node in self.compared]
        return Side(self.graph, self.name_of, values, self.settled, outputs, self.casts)

    def find_twins(self, other: "Side") -> None:
        """Finds for each value the same value of the other program."""
        rows: dict[Any, list[tuple[Node, np.ndarray]]] = collections.defaultdict(list)
        for node, marks in other.marks.items():
            for mark in marks:
                if mark is not None and not is_start(node):
                    rows[mark[0]].append((node, mark[1]))
        tables = {kind: ValueTable(each) for kind, each in rows.items()}
        numbers = {other._numbers_in(node) for node in other.fixed} - {None}
        self.held = {node for node in self.fixed if self._numbers_in(node) in numbers}
        for node in self.graph.nodes:
            if self.name_of[node] in other.by_name:
                self.twin[node] = other.by_name[self.name_of[node]]
            elif not is_start(node) and node.avals:
                found = [_near(mark, tables) for mark in self.marks[node]]
                if all(found) and self._adds_nothing(node):
                    if not self._choose_kin(node, found[0], other):
                        self.suspects += self._other_constants(node, other, tables)
                elif all(found):
                    self._choose(node, found[0], other)
                else:
                    self.suspects += self._other_constants(node, other, tables)

    def _numbers_in(self, node: Node) -> Any:
        """What tells an array of numbers from others, whatever its dtype; None of anything else."""
        results = self.values[node]
        if len(results) != 1 or is_key(results[0]) or np.size(results[0]) < 2:
            return None
        numbers = np.squeeze(np.asarray(results[0]))
        return numbers.shape, numbers.astype(complex).tobytes()

    def _other_constants(
        self, node: Node, other: "Side", tables: Mapping[Any, ValueTable]
    ) -> list[tuple[Node, Node]]:
        twins = [self.twin[arg] for arg, _ in node.args if arg in self.twin]
        if is_guard(node):
            # What an epsilon is added to may have been bounded or reshaped before, by one of both.
            spread = [_not_spread(arg) for arg, _ in node.args]
            twins += [y for arg in spread for y in _near(self.marks[arg][0], tables)]
        kin = [user for twin in twins for user in other.users[twin]]
        found = [user for user in kin if self._conflict(node, user, other)]
        return [(node, self._used_alike(node, found, other))] if found else []

    def _used_alike(self, node: Node, found: list[Node], other: "Side") -> Node:
        """Of several that have another constant, the one that is used as `node` is."""
        uses = self._uses(node)
        return min(found, key=lambda y: uses.isdisjoint(other._uses(y)))

    def _uses(self, node: Node) -> set[tuple]:
        """What is done with a value, and with which others."""
        return {
            (user.op, *(self.name_of[arg] for arg, _ in user.args if arg is not node))
            for user in self.users[node]
        }

    def _choose_kin(self, node: Node, near: list[Node], other: "Side") -> bool:
        """Takes what does the same with the same operands, whatever else has the value, if any."""
        twins = [self.twin[arg] for arg, _ in node.args if arg in self.twin]
        users = {user for twin in twins for user in other.users[twin]}
        kin = [y for y in near if y in users and y.op == node.op]
        if kin:
            self._choose(node, kin, other)
        return bool(kin)

    def _adds_nothing(self, node: Node) -> bool:
        """Whether the value is that of an operand, changed by chance by nothing: `x + 0`.

        Such a value tells nothing of the operation.
        """
        if len(node.args) < 2:
            return False
        arrays = [arg for arg, _ in node.args if self.marks[arg][0] is not None]
        return any(self.is_near(node, arg, self) for arg in arrays)

    def _choose(self, node: Node, near: list[Node], other: "Side") -> None:
        """Takes the nearest kin among values that are the same, unless only a constant differs."""
        conflicting = [y for y in near if self._conflict(node, y, other)]
        fitting = [y for y in near if y not in conflicting]
        kin = [y for y in fitting if y.op == node.op]
        if conflicting and not kin:
            twins = [self.twin[arg] for arg, _ in node.args if arg in self.twin]
            users = [user for twin in twins for user in other.users[twin]]
            # By chance another one may have the same value on these numbers.
            every = [y for y in users if self._conflict(node, y, other)] or conflicting
            self.conflicts.append((node, self._used_alike(node, every, other)))
        else:
            self.twin[node] = (kin or fitting)[0]

    def _conflict(self, x: Node, y: Node, other: "Side") -> bool:
        """Whether both are one operation on the same operands, but for a constant."""
        if x.op != y.op or len(x.args) != len(y.args):
            return False
        pairs = [(a, b) for (a, _), (b, _) in zip(x.args, y.args, strict=True)]
        constants = [(a, b) for a, b in pairs if a.op == b.op == "constant"]
        others = [(a, b) for a, b in pairs if not a.op == b.op == "constant"]
        return (
            all(self._are_one(a, b, other) for a, b in others)
            and bool(others)
            and not all(same_constant(a, b) for a, b in constants)
        )

    def _are_one(self, a: Node, b: Node, other: "Side") -> bool:
        if self.name_of[a] == other.name_of[b] or self.is_near(a, b, other):
            return True
        return self.is_near(_not_spread(a), _not_spread(b), other)

    def is_near(self, a: Node, b: Node, other: "Side") -> bool:
        pairs = zip(self.marks[a], other.marks[b], strict=False)
        return all(one and two and self.near_marks(one, two) for one, two in pairs)

    @staticmethod
    def near_marks(one: Any, other: Any) -> bool:
        """Whether two marks are of the same numbers, in any order."""
        return one[0] == other[0] and bool(
            np.all(np.abs(one[1] - other[1]) <= SAME * np.abs(other[1][-1]))
        )

    def is_known(self, node: Node) -> bool:
        """Whether the other program has it, or it is given, or a number computed from numbers."""
        return (
            node in self.twin
            or is_start(node)
            or node in self.numbers
            or self.name_of[node] in self.settled
        )


def _near(mark: Any, tables: Mapping[Any, ValueTable]) -> list[Node]:
    """The values in `tables` that are what `mark` is of."""
    return tables[mark[0]].near(mark[1]) if mark is not None and mark[0] in tables else []


def _not_spread(node: Node) -> Node:
    """What a value repeats: a variance for each number that it is of."""
    while node.op == "broadcast_in_dim" or only_reshapes(node):
        node = node.args[0][0]
    return node
