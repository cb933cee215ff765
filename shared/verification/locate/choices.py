"""What no sample shows: branches that none takes, conditions and guards with another constant."""

import collections
from typing import Any

from shared.program.graph import Node, Value
from shared.program.jax_programs import COMPARISONS
from shared.verification.locate.side import Side
from shared.verification.locate.values import is_guard, same_constant


def chosen_alike(a: Side, b: Side) -> list[tuple[Node, Node]]:
    """(Linen's, NNX's) operations that choose by the same condition."""
    waiting: dict[Any, collections.deque[Node]] = collections.defaultdict(collections.deque)
    for node in b.graph.nodes:
        if node.op == "choose":
            waiting[_condition(b, node)].append(node)
    return [
        (node, waiting[_condition(a, node)].popleft())
        for node in a.graph.nodes
        if node.op == "choose" and waiting[_condition(a, node)]
    ]


def _condition(side: Side, node: Node) -> tuple[int, int, int]:
    index, which = node.args[0]
    return side.name_of[index], which, len(node.args)


def branches(a: Side, b: Side) -> list[tuple[Value, Value]]:
    """The results of all branches of choices by the same condition, taken or not."""
    return [
        pair
        for one, other in chosen_alike(a, b)
        for pair in zip(one.args[1:], other.args[1:], strict=True)
    ]


def other_conditions(a: Side, b: Side) -> list[tuple[Node, Node]]:
    """The operations of two conditions that have another constant: `count < 20`, `count < 5`."""
    chooses = [[node for node in side.graph.nodes if node.op == "choose"] for side in (a, b)]
    if len(chooses[0]) != len(chooses[1]):
        return []
    found = []
    for one, other in zip(*chooses, strict=True):
        todo = [(one.args[0][0], other.args[0][0])]
        seen = set()
        while todo:
            x, y = todo.pop()
            if (
                (x, y) in seen
                or a.name_of[x] == b.name_of[y]
                or x.op != y.op
                or len(x.args) != len(y.args)
            ):
                continue
            seen.add((x, y))
            operands = [(p, q) for (p, _), (q, _) in zip(x.args, y.args, strict=True)]
            changed = [
                (p, q)
                for p, q in operands
                if p.op == q.op == "constant" and not same_constant(p, q)
            ]
            others = [(p, q) for p, q in operands if (p, q) not in changed]
            if (
                len(changed) == 1
                and others
                and all(a.name_of[p] == b.name_of[q] for p, q in others)
            ):
                found.append((x, y))
            todo += operands
    return found


def other_comparisons(a: Side) -> list[tuple[Node, Node]]:
    """Comparisons of the same value with another constant: `token != 0`, `token != 1`."""
    return [(x, y) for x, y in a.suspects if x.op in COMPARISONS]


def other_guards(a: Side) -> list[tuple[Node, Node]]:
    """Operations that add another small constant to the same value: an epsilon."""
    return [(x, y) for x, y in a.suspects if is_guard(x) and is_guard(y)]
