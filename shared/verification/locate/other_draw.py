"""Both programs compute with random draws, and with others."""

from collections.abc import Mapping

from shared.program.graph import Node
from shared.program.source import Place
from shared.program.view import View
from shared.report.result import Divergence, Spot
from shared.verification.locate.side import Side
from shared.verification.locate.spot import spot
from shared.verification.locate.statement import calls, meeting


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


def _spot(side: Side, drawn: View, meant: View | None) -> Spot | None:
    node = side.graph.view_of(drawn)
    return spot(side, node, _place(node, side.graph.view_of(meant) if meant else None))


def _place(drawn: Node | None, meant: Node | None) -> Place | None:
    """The line that draws, in the function in which it parts from the draw that is meant."""
    lines, others = calls(drawn), calls(meant)
    if not lines:
        return None
    return lines[meeting(lines, others)] if others else lines[-1]
