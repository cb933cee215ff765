"""A place in one of the programs, and what is said of two of them."""

import dataclasses
from collections.abc import Callable

import numpy as np

from shared.locate.side import Side
from shared.locate.values import is_key
from shared.program.graph import Graph, Node
from shared.program.source import Place, users_place


@dataclasses.dataclass(frozen=True)
class Spot:
    """A place in one of the programs.

    Attributes:
      op: the operation, and its results' shapes.
      layer: the index of each scan around it.
      values: what came out of it, in short.
    """

    file: str
    line: int
    source: str
    op: str
    layer: tuple[int, ...]
    values: str


@dataclasses.dataclass(frozen=True)
class Divergence:
    """Where two programs part, and in what.

    Attributes:
      is_near: whether what they part in is as near as a number and that number in half precision.
      is_another_function: whether one computes the error function where the other does not: nothing
        else amounts to it, however near its values are.
    """

    reason: str
    linen: Spot | None
    nnx: Spot | None
    is_near: bool = False
    is_another_function: bool = False


def name_of(node: Node) -> str:
    shapes = ", ".join(str(tuple(aval.shape)) for aval in node.avals)
    return f"{node.op} {shapes}"


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
    return Spot(place.file, place.line, place.source, name_of(node), layers_of(node), summary)


def use_of(
    graph: Graph, weight: Node, place_of: Callable[[Node], Place | None] = lambda node: None
) -> Spot | None:
    """Where a program first uses `weight`; at `place_of` that operation, if it is known."""
    for node in graph.nodes:
        if any(arg is weight for arg, _ in node.args) and node.op != "view":
            place = place_of(node) or users_place(node.stack)
            if place is not None:
                op, layers = name_of(node), layers_of(node)
                return Spot(place.file, place.line, place.source, op, layers, "")
    return None


def _place(side: Side, node: Node) -> Place | None:
    """Where `node` was written; of a weight or an input, where it is used."""
    for candidate in (node, *side.users[node]):
        place = users_place(candidate.stack)
        if place is not None:
            return place
    return None
