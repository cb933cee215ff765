"""Two programs, which of their values are the same, and how far they go on in step."""

from collections.abc import Mapping, Sequence

import numpy as np

from shared.program.canonical import Names, frozen, label, params_that_matter
from shared.program.graph import Node, Value, is_start
from shared.program.jax_programs import COMMUTATIVE
from shared.verification.locate.side import Side
from shared.verification.locate.values import (
    MASKS_ALL,
    SAME_CONSTANT,
    is_key,
    same_constant,
    same_in_place,
)

# How many operations in step are counted.
COUNTED = 24


class Both:
    """Two programs, and which of their values and operations are the same."""

    def __init__(
        self, a: Side, b: Side, names: Names, outputs: Sequence[tuple[Value, Value]]
    ) -> None:
        self.a, self.b, self.names, self.outputs = a, b, names, outputs
        self._labels: dict[Node, int] = {}

    def same(self, one: Value, other: Value) -> bool:
        """Whether a value of Linen and one of NNX are the same, up to their layout."""
        (p, i), (q, k) = one, other
        if p.op == q.op == "constant":
            return same_constant(p, q)
        if self.a.name_of[p] == self.b.name_of[q] and i == k:
            return True
        if p in self.a.graph.views and q in self.b.graph.views:
            return False
        x, y = self.a.values[p][i], self.b.values[q][k]
        if is_key(x) or is_key(y):
            return False  # a key that is the same has the same name
        if p in self.a.numbers and q in self.b.numbers:
            return bool(np.allclose(x, y, rtol=SAME_CONSTANT, atol=0))
        if self.other_layout(one, other):
            return np.squeeze(x).shape != np.squeeze(y).shape
        return self._in_place(one, other)

    def _in_place(self, one: Value, other: Value) -> bool:
        x, y = self.a.values[one[0]][one[1]], self.b.values[other[0]][other[1]]
        if np.squeeze(x).shape == np.squeeze(y).shape:
            x, y = np.squeeze(x), np.squeeze(y)
        floats = np.asarray(x).dtype.kind == np.asarray(y).dtype.kind == "f"
        if floats and np.shape(x) == np.shape(y):
            # What masks is as good as what masks: -1e9 as the smallest number there is.
            masks = (np.minimum(np.abs(x), np.abs(y)) > MASKS_ALL) & (np.sign(x) == np.sign(y))
            x, y = np.where(masks, 0.0, x), np.where(masks, 0.0, y)
        size = float(np.abs(x).max()) if np.asarray(x).dtype.kind == "f" and np.size(x) else 0.0
        return same_in_place(x, y, size)

    def other_layout(self, one: Value, other: Value) -> bool:
        """Whether both are the same numbers in another order."""
        first, second = self.a.marks[one[0]][one[1]], self.b.marks[other[0]][other[1]]
        near = first is not None and second is not None and self.a.near_marks(first, second)
        return near and not self._in_place(one, other)

    def is_open(self, one: Value, other: Value) -> bool:
        """Whether they differ and what differs is in front of them: one side lacks the value."""
        if self.same(one, other):
            return False
        if self.other_layout(one, other):
            return True
        (p, _), (q, _) = one, other
        if p in self.a.numbers and q in self.b.numbers:
            return not (is_start(p) or is_start(q))
        if not self.b.is_known(q):
            return True
        # Where NNX has a value that Linen has too: made for here, or one that was made for others?
        made_here = self.b.count[self.b.name_of[q]] > self.a.count[self.b.name_of[q]]
        return not self.a.is_known(p) and (made_here or self.behind(self.a, one, other) is not None)

    def label(self, node: Node) -> int:
        if node not in self._labels:
            self._labels[node] = self.names("step", label(self.names, node), len(node.args))
        return self._labels[node]

    def is_one_operation(self, p: Node, q: Node) -> bool:
        """Whether two values are computed by one operation, perhaps of operands of other shapes."""
        if is_start(p) or is_start(q) or len(p.args) != len(q.args):
            return False
        alike = p.op == q.op and frozen(params_that_matter(p)) == frozen(params_that_matter(q))
        return alike or self.label(p) == self.label(q)

    def operands(self, u: Node, v: Node) -> list[tuple[Value, Value]]:
        """The operands of two operations of one kind, pair by pair."""
        pairs = list(zip(u.args, v.args, strict=True))
        if u.op in COMMUTATIVE and len(pairs) == 2:
            crossed = list(zip(u.args, reversed(v.args), strict=True))
            fit = [sum(self.same(p, q) for p, q in each) for each in (pairs, crossed)]
            return crossed if fit[1] > fit[0] else pairs
        return pairs

    def in_step(self, paired: Mapping[Node, Node]) -> int:
        """How many operations behind `paired` are the same on both sides."""
        paired = dict(paired)
        todo = list(paired)
        taken = set(paired.values())
        count = 0
        while todo and count < COUNTED:
            p = todo.pop(0)
            for u in self.a.users[p]:
                if u in paired:
                    continue
                for v in self.b.users[paired[p]]:
                    if v not in taken and self._is_in_step(u, v, paired):
                        paired[u] = v
                        taken.add(v)
                        todo.append(u)
                        count += 1
                        break
        if any(paired.get(p) is q for (p, _), (q, _) in self.outputs):
            return COUNTED
        return count

    def _is_in_step(self, u: Node, v: Node, paired: Mapping[Node, Node]) -> bool:
        return self.label(u) == self.label(v) and all(
            paired.get(p[0]) is q[0] or self.same(p, q) or self._are_alike(p[0], q[0])
            for p, q in self.operands(u, v)
        )

    def _are_alike(self, p: Node, q: Node) -> bool:
        """Whether both are computed in one way, of what the other program lacks, or of weights."""
        lacking = not self.a.is_known(p) and not self.b.is_known(q)
        weights = p in self.a.of_weights and q in self.b.of_weights
        return (lacking or weights) and self.label(p) == self.label(q)

    def behind(self, side: Side, one: Value, other: Value) -> tuple[Node, Node] | None:
        """The last operation on the way to `one` that takes `other`, and what that is in `side`."""
        if other[0].op == "constant":
            return None
        found: list[tuple[Node, Node]] = []
        seen: set[Node] = set()
        todo = [one[0]]
        while todo:
            node = todo.pop()
            if node in seen or is_start(node):
                continue
            seen.add(node)
            for arg in node.args:
                if arg[0].op == "constant":
                    continue
                pair = (arg, other) if side is self.a else (other, arg)
                if self.same(*pair):
                    found.append((node, arg[0]))
                elif not side.is_known(arg[0]) or self.other_layout(*pair):
                    todo.append(arg[0])
        return max(found, key=lambda pair: pair[0].number, default=None)
