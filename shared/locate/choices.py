"""Choices and loops decided by another condition, whether or not that shows on a sample."""

from collections.abc import Sequence

from shared.locate.side import Side
from shared.locate.values import same_constant
from shared.program.graph import Graph, Node


def chosen_alike(linen: Graph, nnx: Graph) -> Sequence[tuple[Node, Node]]:
    """(Linen's, NNX's) operations that choose, in order; none if one side has more of them."""
    one, other = ([node for node in g.nodes if node.op == "choose"] for g in (linen, nnx))
    return list(zip(one, other, strict=True)) if len(one) == len(other) else []


def other_conditions(a: Side, b: Side) -> list[tuple[Node, Node]]:
    """The operations of two conditions that have another constant: `count < 20`, `count < 5`."""
    found = []
    for one, other in chosen_alike(a.graph, b.graph):
        todo = [(one.args[0][0], other.args[0][0])]
        seen = set()
        while todo:
            x, y = todo.pop()
            if (x, y) in seen or a.up[x] == b.up[y] or x.op != y.op or len(x.args) != len(y.args):
                continue
            seen.add((x, y))
            operands = [(p, q) for (p, _), (q, _) in zip(x.args, y.args, strict=True)]
            constants = [(p, q) for p, q in operands if p.op == q.op == "constant"]
            if any(not same_constant(p, q) for p, q in constants):
                found.append((x, y))
            todo += operands
    return found
