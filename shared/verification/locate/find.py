"""Evaluates both programs on the same numbers and finds where they part."""

from collections.abc import Sequence

import numpy as np

from shared.program.graph import Value, is_start
from shared.report.result import Divergence
from shared.verification.locate.apart import apart
from shared.verification.locate.choices import (
    branches,
    other_comparisons,
    other_conditions,
    other_guards,
)
from shared.verification.locate.explain import describe
from shared.verification.locate.gradients_alone import only_in_gradients
from shared.verification.locate.side import Side
from shared.verification.locate.turns import parted_turn, started
from shared.verification.locate.values import (
    ROUNDING,
    is_key,
    is_unreasonable,
    same_in_place,
    size_of,
)
from shared.verification.ported import Ported
from shared.verification.programs import Program
from shared.verification.sample import Sample


def locate(
    ported: Ported,
    programs: tuple[Program, Program],
    sample: Sample,
    outputs: Sequence[tuple[Value, Value]],
    settled: Sequence[Program] = (),
    stops: bool = False,
    unseen: bool = False,
) -> Divergence | None:
    """Where the two programs part on these values, or None where their outputs are the same.

    Args:
      ported: the pair.
      programs: of Linen and of NNX.
      sample: random weights, equal by the map, and inputs.
      outputs: (of Linen, of NNX) that should be equal.
      settled: programs of Linen and of NNX whose values are not to be blamed: for gradients, those
        of the forward pass.
      stops: whether the gradients differ, and what shows in them alone is looked for.
      unseen: whether the outputs are not in question, and what no sample shows is looked for.
    """
    sides = []
    for side, graph in enumerate(p.graph for p in programs):
        before = ported.value_names(side, settled[side].graph).values() if settled else ()
        compared = [pair[side] for pair in outputs]
        name_of, values = ported.value_names(side, graph), ported.values(side, graph, sample)
        sides.append(Side(graph, name_of, values, frozenset(before), compared, sample.casts))
    a, b = sides
    if sample.is_large and not all(map(_is_reasonable, sides)):
        return None
    a.find_twins(b)
    b.find_twins(a)
    # A gradient that is zero but for rounding is as large as the rounding of the others.
    sizes = [size_of(side.values[n][w]) for side in sides for n, w in side.graph.outputs]
    scale = float(np.median(sizes)) if sizes else 0.0
    parted = [pair for pair in outputs if not _same_output(a, pair[0], b, pair[1], scale)]
    a.conflicts += other_conditions(a, b) + other_comparisons(a)
    if unseen:
        a.conflicts += other_guards(a)
        # JAX gives the branches of a gradient more to return than those of the model.
        outputs = [] if settled else branches(a, b)
        parted = [pair for pair in outputs if not _same_output(a, pair[0], b, pair[1], scale)]
    if a.conflicts and not sample.is_large:
        x, y = min(a.conflicts, key=lambda pair: pair[0].number)
        return apart(a, x, b, y, *started(a, x, b, y))
    if not parted:
        return only_in_gradients(a, b) if stops else None
    if turn := parted_turn(a, b):
        a, b = a.with_values(turn.linen), b.with_values(turn.nnx)
        a.find_twins(b)
        b.find_twins(a)
        parted = outputs = turn.pairs
    counterpart = {entry.linen: entry.nnx for entry in ported.entries}
    return describe(a, b, parted, outputs, ported.names, counterpart)


def _is_reasonable(side: Side) -> bool:
    """Whether what a program computes of large numbers is what it was made for."""
    return not any(
        is_unreasonable(value)
        for node in side.graph.nodes
        if not (is_start(node) or node in side.of_weights or node in side.numbers)
        for value in side.values[node]
        if not is_key(value)
    )


def _same_output(a: Side, one: Value, b: Side, other: Value, scale: float) -> bool:
    (x, j), (y, m) = one, other
    if (a.name_of[x], j) == (b.name_of[y], m):
        return True
    if not a.settled and size_of(a.values[x][j]) > ROUNDING * scale:
        scale = 0.0  # no gradient, and not zero but for the rounding of other outputs
    return same_in_place(a.values[x][j], b.values[y][m], scale)
