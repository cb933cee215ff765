"""What steps draw: whether both draw alike, and whether each step draws anew."""

from typing import Any

import jax
import numpy as np

from shared.models.alike_keys import Draw
from shared.verification.training.judge import Finding
from shared.verification.training.steps import Sides

_NOT_COMPARED = "losses, gradients, statistics and weights are not compared"


def draw_alike(sides: Sides) -> tuple[bool, list[str]]:
    """(whether both draw the same numbers of keys that all draw alike, what is to be said)."""
    if not sides.training.has_steps:
        return True, []
    states, inputs = sides.start(are_alike=True), sides.inputs(1)
    linen, nnx = sides.linen.draws(states[0], inputs), sides.nnx.draws(states[1], inputs)
    for name, drawn in (("Linen", linen), ("NNX", nnx)):
        if not all(draw.is_alike for draw in drawn):
            return False, [f"{_NOT_COMPARED}: {name} draws of a key that its step makes by itself"]
    if linen == nnx:
        return True, []
    return False, [f"{_NOT_COMPARED}: draws of {_said(linen)} in Linen, of {_said(nnx)} in NNX"]


def _said(drawn: frozenset[Draw]) -> str:
    return ", ".join(f"rows of {draw.length}" for draw in sorted(drawn)) or "nothing"


def redraws_apart(sides: Sides) -> Finding | None:
    """A side that draws in its second step what it drew in the first, where the other draws anew.

    Measured with each side's own keys, by the loss of the second step on the inputs and the weights
    of the first.
    """
    states, inputs = sides.start(are_alike=False), sides.inputs(1)
    if not (sides.linen.draws(states[0], inputs) and sides.nnx.draws(states[1], inputs)):
        return None
    losses = (
        sides.linen.losses_drawn(states[0], inputs),
        sides.nnx.losses_drawn(states[1], inputs),
    )
    anew = [not _are_equal(*each) for each in losses]
    if anew[0] == anew[1]:
        return None
    same, other = ("Linen", "NNX") if anew[1] else ("NNX", "Linen")
    said = (
        f"{same} draws what it drew in step 1, {other} draws anew: the key of {same} is not folded "
        "by the step, or its stream is not kept"
    )
    return Finding(2, "draws", said, 0.0, 0.0)


def _are_equal(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)
