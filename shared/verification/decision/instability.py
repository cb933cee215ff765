"""Programs that are the same in exact arithmetic, of which one loses digits that the other keeps.

The variance as the mean of squares less the square of the mean is the variance; of numbers with a
large mean, float32 keeps nothing of it. Training with it is other training.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from shared.program.evaluate import Values, evaluate
from shared.program.graph import Node, is_start
from shared.report.result import Check, Divergence
from shared.verification.decision.places import MAX_EVALUATED, decides
from shared.verification.locate.side import Side
from shared.verification.locate.spot import operation_of, spot
from shared.verification.locate.values import is_key, size_of
from shared.verification.ported import Ported

# Relative to the size of an output: what float32 loses of it at most, where it is computed well.
WELL = 1e-4
# How many times as much as the other one of two programs loses, if that is called its own fault;
# and an operation as its operands, if that is called where it is lost.
FAR_MORE = 30.0


def decide_by_rounding(
    ported: Ported, checks: Sequence[Check]
) -> tuple[list[Check], Divergence | None]:
    """The checks, those decided anew where float32 tells programs apart that float64 does not.

    Where both lose as much, what training makes of it is no difference.
    """
    in_question = [check for check in checks if _is_in_question(check)]
    sizes = [len(p.graph.nodes) for p in ported.programs]
    if not in_question or not decides(ported) or max(sizes) > MAX_EVALUATED:
        return list(checks), None
    sample = in_question[0].sample
    losses = [_Losses(ported, side, sample) for side in (0, 1)]
    lost = [each.of_outputs for each in losses]
    if max(lost) < WELL:
        return list(checks), None
    words = f"float32 loses {lost[0]:.2g} of Linen's output and {lost[1]:.2g} of NNX's"
    if max(lost) <= FAR_MORE * min(lost):
        training = [check for check in in_question if check.name == "training"]
        return _decided(checks, training, "close", words), None
    place = _place(ported, losses, 1 if lost[1] > lost[0] else 0, words)
    return _decided(checks, in_question, "different", words), place


def _is_in_question(check: Check) -> bool:
    by_limits = (check.name, check.status) == ("training", "different")
    return (check.max_rel or 0) > WELL and (check.status == "close" or by_limits)


def _decided(
    checks: Sequence[Check], decided: Sequence[Check], status: str, note: str
) -> list[Check]:
    return [
        dataclasses.replace(check, status=status, note=note) if check in decided else check
        for check in checks
    ]


class _Losses:
    """What float32 loses of the values of a program, relative to the size of each."""

    def __init__(self, ported: Ported, side: int, number: int) -> None:
        self.graph = ported.programs[side].graph
        sample = ported.sample(number)
        leaves, flat = (sample.linen, sample.nnx)[side], jax.tree.leaves(sample.inputs)
        self.exact = ported.values(side, self.graph, sample)
        self._rounded = evaluate(self.graph, leaves, flat, wide=False)
        self.of = {node: _loss(self.exact, self._rounded, node) for node in self.graph.nodes}

    @property
    def of_outputs(self) -> float:
        """The largest of all outputs."""
        return max((self.of[node] for node, _ in self.graph.outputs), default=0.0)

    def first(self) -> Node | None:
        """The first operation that loses what its operands have."""
        for node in self.graph.nodes:
            before = max((self.of[arg] for arg, _ in node.args), default=0.0)
            if not is_start(node) and self.of[node] > max(WELL, FAR_MORE * before):
                return node
        return None


def _loss(exact: Values, rounded: Values, node: Node) -> float:
    losses = [0.0]
    for x, y in zip(exact[node], rounded[node], strict=True):
        size = size_of(x)
        if size and not is_key(x):
            with np.errstate(invalid="ignore"):
                gap = np.abs(np.asarray(x) - np.asarray(y).astype(np.asarray(x).dtype))
            losses.append(float(np.nanmax(gap, initial=0.0)) / size)
    return max(losses)


def _place(ported: Ported, losses: Sequence[_Losses], side: int, words: str) -> Divergence | None:
    """Where the program of `side` loses its digits, and where the other has the same value."""
    node = losses[side].first()
    if node is None:
        return None
    sides = [
        Side(each.graph, ported.value_names(i, each.graph), each.exact, frozenset(), [])
        for i, each in enumerate(losses)
    ]
    own, other = sides[side], sides[1 - side]
    own.find_twins(other)
    behind = [each for each in own.graph.nodes[node.number :] if each in own.twin]
    spots = [spot(own, node), spot(other, own.twin[behind[0]]) if behind else None]
    if side:
        spots.reverse()
    return Divergence(f"{words}: {operation_of(node)}", spots[0], spots[1])
