"""Evaluates both programs on the same numbers and finds where they part."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from shared.locate.choices import branches, other_conditions, other_guards
from shared.locate.explain import describe, only_in_gradients, reason
from shared.locate.side import Side
from shared.locate.spot import Divergence, spot
from shared.locate.values import same_in_place, size_of
from shared.program.canonical import Names, upward
from shared.program.evaluate import evaluate
from shared.program.graph import Graph, Node, Value
from shared.program.view import View
from shared.weights.weight_map import Entry


def locate(
    linen: Graph,
    nnx: Graph,
    entries: Sequence[Entry],
    linen_leaves: Mapping[str, np.ndarray],
    nnx_leaves: Mapping[str, np.ndarray],
    inputs: Any,
    outputs: Sequence[tuple[Value, Value]],
    settled: Sequence[Graph] = (),
    stops: bool = False,
    unseen: bool = False,
) -> Divergence | None:
    """Where the two programs part on these values, or None where their outputs are the same.

    Args:
      linen: the Linen program; nnx: the NNX program.
      entries: which weight is which.
      linen_leaves: {path: array}, random; nnx_leaves: the same numbers by `entries`.
      inputs: of both.
      outputs: (of Linen, of NNX) that should be equal.
      settled: programs of Linen and of NNX whose values are not to be blamed: for gradients, those
        of the forward pass.
      stops: whether the gradients differ, and what shows in them alone is looked for.
      unseen: whether the outputs are not in question, and what no sample shows is looked for.
    """
    names = Names()
    numbers: tuple[dict[View, int], dict[View, int]] = ({}, {})
    for number, entry in enumerate(entries):
        numbers[0][entry.linen] = numbers[1][entry.nnx] = number
    flat = jax.tree.leaves(inputs)
    sides = []
    for side, graph, leaves in ((0, linen, linen_leaves), (1, nnx, nnx_leaves)):

        def up(graph: Graph, side: int = side) -> dict[Node, int]:
            def name(node: Node) -> Any:
                view = graph.views.get(node, View(node.params.get("path", "")))
                return numbers[side].get(view, (side, view))

            return upward(names, graph, name)

        done = frozenset(up(settled[side]).values()) if settled else frozenset()
        compared = [pair[side] for pair in outputs]
        sides.append(Side(graph, up(graph), evaluate(graph, leaves, flat), done, compared))
    a, b = sides
    a.find_twins(b)
    b.find_twins(a)
    # A gradient that is zero but for rounding is as large as the rounding of the others.
    sizes = [size_of(side.values[n][w]) for side in sides for n, w in side.graph.outputs]
    scale = float(np.median(sizes)) if sizes else 0.0
    parted = [pair for pair in outputs if not _same_output(a, pair[0], b, pair[1], scale)]
    a.conflicts += other_conditions(a, b)
    if unseen:
        a.conflicts += other_guards(a)
        outputs = branches(a, b)
        parted = [pair for pair in outputs if not _same_output(a, pair[0], b, pair[1], scale)]
    if a.conflicts:
        x, y = min(a.conflicts, key=lambda pair: pair[0].number)
        return Divergence(reason(x, y), spot(a, x), spot(b, y))
    if not parted:
        return only_in_gradients(a, b) if stops else None
    counterpart = {entry.linen: entry.nnx for entry in entries}
    return describe(a, b, parted, outputs, names, counterpart)


def _same_output(a: Side, one: Value, b: Side, other: Value, scale: float) -> bool:
    (x, j), (y, m) = one, other
    return (a.up[x], j) == (b.up[y], m) or same_in_place(a.values[x][j], b.values[y][m], scale)
