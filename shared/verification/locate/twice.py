"""A function that NNX calls twice with one value, where Linen calls it with two."""

from collections.abc import Sequence

from shared.program.graph import Node
from shared.program.source import Place
from shared.report.result import Divergence
from shared.verification.locate.apart import apart
from shared.verification.locate.both import Both
from shared.verification.locate.side import Side
from shared.verification.locate.statement import calls, meeting


def called_twice(both: Both, x: Node) -> Divergence | None:
    """The calls of a function whose operation `x` NNX lacks, if it computes another one twice.

    Of Linen's the same line, or the same weight, makes `x` and a value that NNX has too.
    """
    a, b = both.a, both.b
    lines = calls(x)
    for here in a.graph.nodes[: x.number]:
        name = a.name_of[here]
        if not b.count[name] > a.count[name] > 0 or both.label(here) != both.label(x):
            continue
        first, *more = [node for node in b.graph.nodes if b.name_of[node] == name]
        is_called_twice = len(lines) > 1 and calls(here)[-1:] == lines[-1:]
        if not more or not (is_called_twice or _share_a_weight(a, here, x)):
            continue
        # Of as many calls as Linen has, the one more.
        there = calls(more[-1])
        places = _apart_from(lines, calls(here)), _apart_from(there, calls(first))
        return apart(a, x, b, more[-1], *places)
    return None


def _share_a_weight(side: Side, one: Node, other: Node) -> bool:
    args = {arg for arg, _ in other.args}
    return any(arg in args and arg in side.of_weights for arg, _ in one.args)


def _apart_from(lines: Sequence[Place], others: Sequence[Place]) -> Place | None:
    """Of two calls the line in which they are not one."""
    return lines[meeting(others, lines)] if lines and others else None
