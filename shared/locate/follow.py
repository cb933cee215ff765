"""Follows two programs from where they part to where they go on in step, and back."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from shared.locate.side import Side
from shared.locate.values import SAME_CONSTANT, is_key, same_constant, same_in_place
from shared.program.canonical import Names, label
from shared.program.graph import Node, Value, is_start
from shared.program.jax_programs import COMMUTATIVE

# How many operations in step are enough to believe that the programs are together, and how many are
# counted; how many operations are looked at behind the place where they part.
_BELIEVED = 3
_COUNTED = 24
_REACH = 400
# How many operations may be passed over for one in step, and for a weight that both take.
_WORTH = 3
_WEIGHT = 18


@dataclasses.dataclass(frozen=True)
class Parting:
    """Where two programs part, and in what.

    Attributes:
      kind: "lacks": one program lacks operations; "operand": both take other values that both have;
        "operation": both compute, each in its way.
      linen: the first operation of Linen that NNX lacks; where NNX has more, the value behind which
        it has it. nnx: the same with the sides exchanged.
      lacking: the program that lacks operations, "linen" or "nnx", or "".
      linen_next: the operation with which Linen goes on as NNX does; nnx_next: its counterpart.
      operands: where the kind is "operand", what Linen takes and what NNX takes.
      source: where the kind is "lacks", the value that both have, in the program that has more.
    """

    kind: str
    linen: Node
    nnx: Node
    lacking: str = ""
    linen_next: Node | None = None
    nnx_next: Node | None = None
    operands: tuple[Value, Value] | None = None
    source: Node | None = None


class Both:
    """Two programs, and which of their values and operations are the same."""

    def __init__(
        self, a: Side, b: Side, names: Names, outputs: Sequence[tuple[Value, Value]]
    ) -> None:
        self.a, self.b, self.names, self.outputs = a, b, names, outputs
        self._labels: dict[Node, int] = {}

    def part(self, parted: Sequence[tuple[Value, Value]]) -> Parting:
        """The first difference on the way to the outputs `parted`."""
        if together := self._together():
            return self._at(*together)
        return self._between(*parted[0], None, None)

    def same(self, one: Value, other: Value) -> bool:
        """Whether a value of Linen and one of NNX are the same, up to their layout."""
        (p, i), (q, k) = one, other
        if p.op == q.op == "constant":
            return same_constant(p, q)
        if self.a.up[p] == self.b.up[q] and i == k:
            return True
        if p in self.a.graph.views and q in self.b.graph.views:
            return False
        x, y = self.a.values[p][i], self.b.values[q][k]
        if is_key(x) or is_key(y):
            return False  # a key that is the same has the same name
        if p in self.a.numbers and q in self.b.numbers:
            return bool(np.allclose(x, y, rtol=SAME_CONSTANT, atol=0))
        if self._other_layout(one, other):
            return np.shape(x) != np.shape(y)
        return self._in_place(one, other)

    def _in_place(self, one: Value, other: Value) -> bool:
        x, y = self.a.values[one[0]][one[1]], self.b.values[other[0]][other[1]]
        size = float(np.abs(x).max()) if np.asarray(x).dtype.kind == "f" and np.size(x) else 0.0
        return same_in_place(x, y, size)

    def _other_layout(self, one: Value, other: Value) -> bool:
        """Whether both are the same numbers in another order."""
        first, second = self.a.marks[one[0]][one[1]], self.b.marks[other[0]][other[1]]
        near = first is not None and second is not None and self.a.near_marks(first, second)
        return near and not self._in_place(one, other)

    def is_open(self, one: Value, other: Value) -> bool:
        """Whether they differ and what differs is in front of them: one side lacks the value."""
        if self.same(one, other):
            return False
        if self._other_layout(one, other):
            return True
        (p, _), (q, _) = one, other
        if not self.b.is_known(q):
            return True
        # Where NNX has a value that Linen has too: made for here, or one that was made for others?
        made_here = self.b.count[self.b.up[q]] > self.a.count[self.b.up[q]]
        return not self.a.is_known(p) and (
            made_here or self._behind(self.a, one, other) is not None
        )

    def label(self, node: Node) -> int:
        if node not in self._labels:
            self._labels[node] = self.names("step", label(self.names, node), len(node.args))
        return self._labels[node]

    def operands(self, u: Node, v: Node) -> list[tuple[Value, Value]]:
        """The operands of two operations of one kind, pair by pair."""
        pairs = list(zip(u.args, v.args, strict=True))
        if u.op in COMMUTATIVE and len(pairs) == 2:
            crossed = list(zip(u.args, reversed(v.args), strict=True))
            fit = [sum(self.same(p, q) for p, q in each) for each in (pairs, crossed)]
            return crossed if fit[1] > fit[0] else pairs
        return pairs

    def _together(self) -> tuple[Node, Node] | None:
        """The nearest operations, behind the place of parting, with which both go on in step."""
        linen, nnx = (
            [
                node
                for node in side.graph.nodes
                if not side.is_known(node) and node not in side.forms
            ]
            for side in (self.a, self.b)
        )
        candidates = defaultdict(list)
        for k, v in enumerate(nnx[:_REACH]):
            candidates[self.label(v)].append((k, v))
        best, cost = None, 2 * _REACH
        for i, u in enumerate(linen[:_REACH]):
            for k, v in candidates.get(self.label(u), ()):
                # What is passed over costs, what is explained pays.
                if i + k - _WORTH * _COUNTED - _WEIGHT >= cost:
                    continue
                steps = self._steps_from(u, v)
                gain = _WORTH * steps + _WEIGHT * self._share_a_weight(u, v)
                if steps >= _BELIEVED and i + k - gain < cost:
                    best, cost = (u, v), i + k - gain
        return best

    def _steps_from(self, u: Node, v: Node) -> int:
        pairs = [(p, q) for p, q in self.operands(u, v) if p[0].op != "constant"]
        same = [self.same(p, q) for p, q in pairs]
        if all(same) or not (any(same) or len(pairs) == 1):
            return 0
        if not any(same) and not self._have_a_source(*pairs[0]):
            return 0
        opened = {one[0]: other[0] for one, other in pairs if self.is_open(one, other)}
        return self.in_step({u: v, **opened})

    def _share_a_weight(self, u: Node, v: Node) -> bool:
        return any(p[0] in self.a.forms and self.same(p, q) for p, q in self.operands(u, v))

    def _have_a_source(self, one: Value, other: Value) -> bool:
        """Whether two values are made of one value that both programs have."""
        linen = {
            self.b.by_name.get(self.a.up[n], self.a.twin.get(n)) for n in self._sources(self.a, one)
        }
        return not linen.isdisjoint(self._sources(self.b, other))

    @staticmethod
    def _sources(side: Side, value: Value) -> set[Node]:
        """The known values, weights and constants aside, that a value is made of."""
        found, seen, todo = set(), set(), [value[0]]
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            if not side.is_known(node):
                todo += [arg for arg, _ in node.args]
            elif node.op == "input" or not (is_start(node) or node in side.forms):
                found.add(node)
        return found

    def in_step(self, paired: Mapping[Node, Node]) -> int:
        """How many operations behind `paired` are the same on both sides."""
        paired = dict(paired)
        todo = list(paired)
        taken = set(paired.values())
        count = 0
        while todo and count < _COUNTED:
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
            return _COUNTED
        return count

    def _is_in_step(self, u: Node, v: Node, paired: Mapping[Node, Node]) -> bool:
        return self.label(u) == self.label(v) and all(
            paired.get(p[0]) is q[0] or self.same(p, q) or self._are_alike(p[0], q[0])
            for p, q in self.operands(u, v)
        )

    def _are_alike(self, p: Node, q: Node) -> bool:
        """Whether both are computed in one way, of what the other program lacks, or of weights."""
        lacking = not self.a.is_known(p) and not self.b.is_known(q)
        weights = p in self.a.forms and q in self.b.forms
        return (lacking or weights) and self.label(p) == self.label(q)

    def _at(self, u: Node, v: Node) -> Parting:
        """What differs in front of two operations of one kind."""
        differing = [pair for pair in self.operands(u, v) if not self.same(*pair)]
        opened = [pair for pair in differing if self.is_open(*pair)]
        if opened:
            one, other = min(opened, key=lambda pair: pair[0][0].number)
            return self._between(one, other, u, v)
        if differing:
            return Parting("operand", u, v, linen_next=u, nnx_next=v, operands=differing[0])
        return Parting("operation", u, v, linen_next=u, nnx_next=v)

    def _between(self, one: Value, other: Value, u: Node | None, v: Node | None) -> Parting:
        """What differs in front of two values that `u` and `v` take in the same way."""
        p, q = one[0], other[0]
        if self._differ_in_constants(p, q):
            return self._at(p, q)
        if more := self._behind(self.a, one, other):
            return Parting("lacks", more[0], q, "nnx", u, v, source=more[1])
        if more := self._behind(self.b, other, one):
            return Parting("lacks", p, more[0], "linen", u, v, source=more[1])
        if not is_start(p) and not is_start(q) and self.label(p) == self.label(q):
            return self._at(p, q)
        x, y = self._first_of_one_value(p, q) or (self._first(self.a, p), self._first(self.b, q))
        alike = (x, y) != (p, q) and self.label(x) == self.label(y)
        if alike and any(self.same(*pair) for pair in self.operands(x, y)):
            return self._at(x, y)
        return Parting("operation", x, y, "", u, v)

    def _differ_in_constants(self, p: Node, q: Node) -> bool:
        if is_start(p) or is_start(q) or self.label(p) != self.label(q):
            return False
        differing = [pair for pair in self.operands(p, q) if not self.same(*pair)]
        return all(x.op == y.op == "constant" for (x, _), (y, _) in differing)

    def _behind(self, side: Side, one: Value, other: Value) -> tuple[Node, Node] | None:
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
                if self.same(arg, other) if side is self.a else self.same(other, arg):
                    found.append((node, arg[0]))
                elif not side.is_known(arg[0]):
                    todo.append(arg[0])
        return max(found, key=lambda pair: pair[0].number, default=None)

    def _first_of_one_value(self, p: Node, q: Node) -> tuple[Node, Node] | None:
        """The first operations that the other lacks, of those that take the same value."""
        takers: dict[Node, Node] = {}
        for v in self._lacking(self.b, q):
            for arg, _ in v.args:
                if not (is_start(arg) or arg in self.b.forms or arg in self.b.numbers):
                    takers[arg] = min(v, takers.get(arg, v), key=lambda node: node.number)
        found = [
            (u, takers[twin])
            for u in self._lacking(self.a, p)
            for arg, _ in u.args
            if (twin := self.b.by_name.get(self.a.up[arg], self.a.twin.get(arg))) in takers
        ]
        return min(found, key=lambda pair: pair[0].number, default=None)

    def _first(self, side: Side, node: Node) -> Node:
        """The first operation that the other program lacks on the way to `node`."""
        return min(self._lacking(side, node), key=lambda each: each.number, default=node)

    @staticmethod
    def _lacking(side: Side, node: Node) -> Iterator[Node]:
        seen, todo = set(), [node]
        while todo:
            here = todo.pop()
            if here in seen or side.is_known(here):
                continue
            seen.add(here)
            todo += [arg for arg, _ in here.args]
            if here not in side.forms and all(
                side.is_known(arg) or arg in side.forms for arg, _ in here.args
            ):
                yield here
