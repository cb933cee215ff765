"""What is said of a place in one of the programs."""

from collections.abc import Callable

import numpy as np

from shared.program.drawn_leaves import is_draw
from shared.program.graph import Graph, Node
from shared.program.source import Place, users_place
from shared.program.view import View
from shared.report.result import Spot
from shared.verification.locate.side import Side
from shared.verification.locate.values import is_key


def operation_of(node: Node) -> str:
    shapes = ", ".join(str(tuple(aval.shape)) for aval in node.avals)
    is_drawn = node.op == "leaf" and is_draw(node.params["path"])
    return f"{'draw' if is_drawn else node.op} {shapes}"


def layers_of(node: Node) -> tuple[int, ...]:
    return tuple(iteration.number for iteration in node.layer)


def spot(side: Side, node: Node | None, place: Place | None = None) -> Spot | None:
    """What is said of `node`; of `place`, if that is not where `node` was written."""
    if node is None:
        return None
    place = place or _place(side, node)
    if place is None:
        return None
    value = np.asarray(side.values[node][0]) if not is_key(side.values[node][0]) else None
    summary = ""
    if value is not None and value.size and value.dtype.kind in "fiu":
        summary = f"min {value.min():.6g}, mean {value.mean():.6g}, max {value.max():.6g}"
    return Spot(place.file, place.line, place.source, operation_of(node), layers_of(node), summary)


def use_of(
    graph: Graph, weight: Node, place_of: Callable[[Node], Place | None] = lambda node: None
) -> Spot | None:
    """Where a program first uses `weight`; at `place_of` that operation, if it is known."""
    for node in graph.nodes:
        if any(arg is weight for arg, _ in node.args) and node.op != "view":
            place = place_of(node) or users_place(node.stack)
            if place is not None:
                op, layers = operation_of(node), layers_of(node)
                return Spot(place.file, place.line, place.source, op, layers, "")
    return None


def drawn_at(graph: Graph, view: View) -> Spot | None:
    """Where a program draws what `view` takes."""
    node = next((n for n in graph.nodes if n.op == "leaf" and n.params["path"] == view.leaf), None)
    place = users_place(node.stack) if node else None
    if node is None or place is None:
        return None
    return Spot(place.file, place.line, place.source, operation_of(node), layers_of(node), "")


def _place(side: Side, node: Node) -> Place | None:
    """Where `node` was written; of a weight or an input, where it is used."""
    for candidate in (node, *side.users[node]):
        place = users_place(candidate.stack)
        if place is not None:
            return place
    return None
