"""The checks of a pair whose weights are mapped, and what they amount to."""

import dataclasses
import time
import types
from collections.abc import Callable, Mapping, Sequence

from shared.checks.base import Check, Ported, timed
from shared.checks.forward import check_forward, check_updates
from shared.checks.gradients import check_gradients
from shared.checks.programs import check_programs
from shared.checks.structure import check_structure
from shared.checks.training import check_training
from shared.decision import decide_in_float64, decide_unseen, locate_in, not_finite
from shared.locate import Divergence, layers_exchanged, use_of
from shared.program.graph import draws_random_numbers
from shared.verdict import Verification, verdict_of
from shared.weights.crossing import Crossing, find_crossing
from shared.weights.fused import Fused, find_fused
from shared.weights.pieces import Found

CHECKS: dict[str, Callable[[Ported], Check]] = {
    "programs": check_programs,
    "forward": check_forward,
    "updates": check_updates,
    "gradients": check_gradients,
    "training": check_training,
}
ALL_CHECKS = ("structure", *CHECKS)

Progress = Callable[[str], None]


def make(
    ported: Ported,
    checks: Sequence[str],
    progress: Progress,
    known: Mapping[str, Check] = types.MappingProxyType({}),
) -> list[Check]:
    """The checks that `checks` names, "structure" aside, and that are not `known`."""
    made = []
    for name in CHECKS:
        if name in checks:
            progress(name)
            made.append(known.get(name) or timed(CHECKS[name], ported))
    return made


def compare(
    found: Found, ported: Ported, checks: Sequence[str], progress: Progress, started: float
) -> Verification:
    """What is known of a pair with the weights of one map.

    Args:
      found: the map; ported: the pair with it.
      checks: which of `CHECKS` to make.
      progress: told the name of each.
      started: when the map was begun.
    """
    crossing = find_crossing(found.entries, ported.linen.leaves, ported.nnx.leaves)
    if crossing:
        ported = dataclasses.replace(ported, entries=crossing.meant)
        if not (found.linen_left or found.nnx_left) and _passes(ported):
            # Programs do not tell experts of equal form apart; what is loaded into them does.
            crossing = None
    fused = find_fused(found)
    meant = crossing.remark if crossing else fused.remark if fused else ""
    linen_left, nnx_left = (
        sorted({view.leaf for view in views}) for views in (found.linen_left, found.nnx_left)
    )
    structure = check_structure(ported, linen_left, nnx_left, meant)
    made = [dataclasses.replace(structure, seconds=time.perf_counter() - started)]
    if structure.status != "different":
        made += make(ported, checks, progress)
    made, divergence = decide_in_float64(ported, made)
    if verdict_of(made) in ("equal", "close"):
        made, divergence = decide_unseen(ported, made)
    verdict, remark = verdict_of(made), meant
    if verdict == "different":
        if structure.status != "different" and _both_draw(found):
            made, verdict, divergence = _undecided(made), "undecided", None
            remark = "both models draw random numbers in the call; make it deterministic"
        else:
            divergence = _divergence(found, ported, crossing, fused) or divergence
            divergence = divergence or locate_in(ported, ported.linen_program, ported.nnx_program)
    undecided = [check.name for check in made if check.status == "undecided"]
    if verdict == "undecided" and "forward" in undecided:
        divergence = not_finite(ported)
        remark = remark or (divergence.reason if divergence else "")
    return Verification(
        verdict=verdict,
        checks=made,
        rows=ported.weights.rows(),
        unmatched_linen=linen_left,
        unmatched_nnx=nnx_left,
        divergence=divergence,
        remark=structure.note if linen_left or nnx_left else remark,
        ported=ported,
    )


def _passes(ported: Ported) -> bool:
    forward = check_forward(ported)
    return forward.status in ("equal", "close") and not decide_unseen(ported, [forward])[1]


def _both_draw(found: Found) -> bool:
    return all(draws_random_numbers(graph) for graph in (found.linen, found.nnx))


def _undecided(made: Sequence[Check]) -> list[Check]:
    """The checks where each side draws numbers of its own: different says nothing of the port."""
    note = "both draw random numbers of their own"
    return [
        dataclasses.replace(check, status="undecided", note=note)
        if check.status == "different"
        else check
        for check in made
    ]


def _divergence(
    found: Found, ported: Ported, crossing: Crossing | None, fused: Fused | None
) -> Divergence | None:
    """What is to be said of the weights, where that is what differs."""
    if crossing and crossing.layers:
        return layers_exchanged(found.linen, found.nnx, crossing.layers, crossing.meant)
    if fused and not crossing:
        spots = use_of(found.linen, fused.linen), use_of(found.nnx, fused.nnx)
        return Divergence(fused.summary, *spots)
    return None
