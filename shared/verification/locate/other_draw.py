"""Both programs compute with random draws, and with others."""

from collections.abc import Mapping

from shared.program.drawn_leaves import is_draw
from shared.program.graph import Node, is_start
from shared.program.source import Place
from shared.program.view import View
from shared.report.result import Divergence, Spot
from shared.verification.locate.both import Both
from shared.verification.locate.side import Side
from shared.verification.locate.spot import spot
from shared.verification.locate.statement import calls, meeting

# Through how many operations draws that differ are followed.
_REACH = 8


def other_draw(
    a: Side, b: Side, linen: View, nnx: View, counterpart: Mapping[View, View]
) -> Divergence:
    """Where Linen draws `linen` and NNX draws `nnx`, which is not what is paired with it."""
    inverse = {other: one for one, other in counterpart.items()}
    return Divergence(
        "another random draw",
        _spot(a, linen, inverse.get(nnx)),
        _spot(b, nnx, counterpart.get(linen)),
    )


def drawn_otherwise(both: Both, x: Node, y: Node) -> tuple[Node, Node] | None:
    """Values that are made of draws alone and differ, which `x` and `y` compute with.

    Followed through operations of one kind: what differs is then made where it is drawn.
    """
    for _ in range(_REACH):
        if {x.op, y.op} == {"select_n", "choose"}:
            # By one condition for each element, or by one for all.
            (p, _), (q, _) = x.args[0], y.args[0]
            return (p, q) if _is_drawn(both.a, p) and _is_drawn(both.b, q) else None
        if x.op != y.op or len(x.args) != len(y.args):
            return None
        differing = [pair for pair in both.operands(x, y) if not both.same(*pair)]
        drawn = [
            (p, q) for (p, _), (q, _) in differing if _is_drawn(both.a, p) and _is_drawn(both.b, q)
        ]
        if drawn:
            return drawn[0]
        if len(differing) != 1:
            return None
        (x, _), (y, _) = differing[0]
    return None


def what_is_drawn(both: Both, x: Node, y: Node) -> str:
    """In what the draws that two values are made of differ; "" where it is not in their shapes."""
    one, other = (
        [tuple(each.avals[0].shape) for each in _draws_of(side, node)]
        for side, node in ((both.a, x), (both.b, y))
    )
    if sorted(one) == sorted(other):
        return ""
    return f"draws of {', '.join(map(str, one))} in Linen, {', '.join(map(str, other))} in NNX"


def _is_drawn(side: Side, node: Node) -> bool:
    """Whether a value is made of draws, and of no weight and no input."""
    starts = _starts_of(node)
    views = [side.graph.views[each] for each in starts if each in side.graph.views]
    is_fixed = any(each.op == "input" for each in starts)
    return bool(views) and not is_fixed and all(is_draw(view.leaf) for view in views)


def _draws_of(side: Side, node: Node) -> list[Node]:
    return [each for each in _starts_of(node) if each in side.graph.views]


def _starts_of(node: Node) -> list[Node]:
    """What a value is made of, in order; of a view, not the weight."""
    seen: set[Node] = set()
    todo, found = [node], []
    while todo:
        each = todo.pop()
        if each in seen:
            continue
        seen.add(each)
        if is_start(each):
            found.append(each)
        else:
            todo += [arg for arg, _ in each.args]
    return sorted(found, key=lambda each: each.number)


def _spot(side: Side, drawn: View, meant: View | None) -> Spot | None:
    node = side.graph.view_of(drawn)
    return spot(side, node, _place(node, side.graph.view_of(meant) if meant else None))


def _place(drawn: Node | None, meant: Node | None) -> Place | None:
    """The line that draws, in the function in which it parts from the draw that is meant."""
    lines, others = calls(drawn), calls(meant)
    if not lines:
        return None
    return lines[meeting(lines, others)] if others else lines[-1]
