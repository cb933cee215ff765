"""What happened where two programs part: an operation replaced, left out, or added.

Each is supposed in turn, and the programs are followed from there: the supposition with which they
go on in step is the one that explains most.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from shared.locate.side import Side
from shared.locate.values import same_constant
from shared.program.canonical import Names, label
from shared.program.graph import Node, Value

# How far operations are looked for that one program has and the other has not.
_REACH = 80
# How many operations in step are enough to believe a supposition, and how many are counted.
_BELIEVED = 3
_COUNTED = 24


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """`linen` and `nnx` are the same operation on the same operands, but for what is `lacking`.

    Attributes:
      lacking: the program without operations that the other has, None if both have others.
      in_step: how many operations behind them are the same.
    """

    lacking: str | None
    linen: Node
    nnx: Node
    in_step: int


class Follower:
    """Follows two programs from a pair of operations that are supposed to be the same."""

    def __init__(self, a: Side, b: Side, names: Names, outputs: Sequence[tuple[Value, Value]]):
        self.a, self.b, self.names, self.outputs = a, b, names, outputs
        self._labels: dict[Node, int] = {}

    def explain(self, x: Node, y: Node) -> Hypothesis:
        """The best explanation of where `x` of Linen and `y` of NNX part."""
        replaced = Hypothesis(None, x, y, self.in_step({x: y}))
        if replaced.in_step == _COUNTED:
            return replaced
        others = [
            *self._left_out(x, y, "nnx", self.a, self.b),
            *self._left_out(y, x, "linen", self.b, self.a),
        ]
        best = max(others, key=lambda found: found.in_step, default=None)
        if best is None or best.in_step < max(_BELIEVED, replaced.in_step + 1):
            return replaced
        return best

    def _left_out(
        self, x: Node, y: Node, lacking: str, one: Side, other: Side
    ) -> Iterator[Hypothesis]:
        """That `other` lacks `x` and some operations behind it, and goes on with `y`."""
        missing = {x}
        for u in one.graph.nodes[x.number + 1 : x.number + 1 + _REACH]:
            if not any(arg in missing for arg, _ in u.args):
                continue
            if self.label(u) == self.label(y):
                stands_for = self._stands_for(u, y, missing, x, one)
                if stands_for is not None:
                    pairs = [(u, y), *stands_for]
                    if one is self.b:
                        pairs = [(q, p) for p, q in pairs]
                    yield Hypothesis(lacking, *pairs[0], self.in_step(dict(pairs)))
            missing.add(u)

    def _stands_for(
        self, u: Node, y: Node, missing: set[Node], x: Node, one: Side
    ) -> list[tuple[Node, Node]] | None:
        """What of `missing` `u` takes, with the operand of `x` that `y` takes in its place."""
        found = []
        for (p, _), (q, _) in zip(u.args, y.args, strict=True):
            if p in missing:
                if not any(self._same_by(one, arg, q) for arg, _ in x.args):
                    return None
                found.append((p, q))
            elif not self._same_by(one, p, q):
                return None
        return found or None

    def _same_by(self, one: Side, p: Node, q: Node) -> bool:
        return self.same(p, q) if one is self.a else self.same(q, p)

    def in_step(self, paired: dict[Node, Node]) -> int:
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
                    if v not in taken and self._in_step(u, v, paired):
                        paired[u] = v
                        taken.add(v)
                        todo.append(u)
                        count += 1
                        break
        ends = [
            (one, other)
            for (one, _), (other, _) in zip(
                self.a.graph.outputs, self.b.graph.outputs, strict=False
            )
        ]
        if any(paired.get(one) is other for one, other in ends):
            return _COUNTED
        return min(count, _COUNTED)

    def _in_step(self, u: Node, v: Node, paired: dict[Node, Node]) -> bool:
        return self.label(u) == self.label(v) and all(
            paired.get(p) is q or self.same(p, q)
            for (p, _), (q, _) in zip(u.args, v.args, strict=True)
        )

    def same(self, p: Node, q: Node) -> bool:
        """Whether `p` of Linen and `q` of NNX hold the same value."""
        if p.op == q.op == "constant":
            return same_constant(p, q)
        if self.a.up[p] == self.b.up[q] or self.a.twin.get(p) is q:
            return True
        return p in self.a.twin and q in self.b.twin and self.a.is_near(p, q, self.b)

    def label(self, node: Node) -> int:
        if node not in self._labels:
            self._labels[node] = self.names("step", label(self.names, node), len(node.args))
        return self._labels[node]
