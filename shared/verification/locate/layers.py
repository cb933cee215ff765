"""Which layer's weights are taken, and where that is said: in a loop, in what a scan is told."""

import functools
from collections.abc import Callable, Mapping, Sequence

from shared.program.graph import Graph, Node
from shared.program.source import Place
from shared.program.view import View
from shared.report.result import Divergence
from shared.verification.locate.follow import Parting
from shared.verification.locate.lifted import directions, told_direction
from shared.verification.locate.side import Side
from shared.verification.locate.spot import use_of
from shared.verification.locate.statement import choice, loop
from shared.weights.entry import Entry
from shared.weights.regular import families


def layers_exchanged(linen: Graph, nnx: Graph, entry: Entry, meant: Sequence[Entry]) -> Divergence:
    """Where the weights of `entry` are used, and the layer of each is chosen.

    Args:
      linen: the Linen program; nnx: the NNX program.
      entry: weights of different layers that are used alike.
      meant: the map that pairs weights of one layer.
    """
    sides = (linen, "linen", "nnx"), (nnx, "nnx", "linen")
    held = [_holder(graph, getattr(entry, side)) for graph, side, _ in sides]
    users = [
        next(n for n in g.nodes if _takes(n, w)) for (g, *_), w in zip(sides, held, strict=True)
    ]
    apart = directions(users[0], users[1])
    spots = []
    chosen: Callable[[Node], Place | None]
    for i, (graph, side, other) in enumerate(sides):
        wanted = next(
            getattr(each, side) for each in meant if getattr(each, other) == getattr(entry, other)
        )
        if apart:
            chosen = told_direction
        else:
            chosen = functools.partial(choice, view=getattr(entry, side), meant=wanted)
        spots.append(use_of(graph, held[i], chosen))
    return Divergence(f"{entry.linen} in Linen, {entry.nnx} in NNX", spots[0], spots[1])


def _holder(graph: Graph, view: View) -> Node:
    return next(node for node, held in graph.views.items() if held == view)


def _takes(node: Node, weight: Node) -> bool:
    return node.op != "view" and any(arg is weight for arg, _ in node.args)


def skipped_layer(
    a: Side, b: Side, found: Parting, counterpart: Mapping[View, View]
) -> tuple[Place | None, Place | None] | None:
    """The loops over the layers, where NNX lacks one layer of several."""
    last = found.linen_next.number if found.linen_next else len(a.graph.nodes)
    section = [n for n in a.graph.nodes[found.linen.number : last] if not a.is_known(n)]
    view = next(
        (a.graph.views[arg] for n in section for arg, _ in n.args if arg in a.graph.views), None
    )
    if view is None:
        return None
    used = set(b.graph.views.values())
    meant = counterpart.get(view)
    if meant is None or meant in used:
        return None
    like = [
        (node, other)
        for node, other in b.graph.views.items()
        for linen, nnx in counterpart.items()
        if nnx == other and _are_like(linen, view) and _are_listed(nnx, meant) and b.users[node]
    ]
    if not like:
        return None
    node, other = like[-1]
    user = b.users[node][0]
    return choice(found.linen, view, None), choice(user, other, None) or loop(user)


def _are_like(one: View, other: View) -> bool:
    """Whether both are one weight of two layers."""
    return not set(families(one)).isdisjoint(families(other))


def _are_listed(one: View, other: View) -> bool:
    """Whether both are one weight of two modules of a list, or of two layers of a stack."""
    alike = set(families(one)) & set(families(other))
    return any("/#/" in kind.path or None in [i for _, i in kind.taken] for kind in alike)
