"""The verdict: what checks and places amount to."""

import dataclasses
from collections.abc import Sequence

from shared.program.drawn_leaves import is_draw
from shared.program.draws import draws_by_itself
from shared.report.result import PASSES, Check, Divergence, Verification
from shared.verification.alignment import align
from shared.verification.decision.half_precision import remark_of_precision
from shared.verification.decision.places import locate_in
from shared.verification.drawn import of_one_key
from shared.verification.locate import drawn_at, layers_exchanged, not_finite, use_of
from shared.verification.locate.left_behind import place_of_what_is_left, remark_of_what_is_left
from shared.verification.locate.result_types import result_types_apart
from shared.verification.locate.returned import with_returned
from shared.verification.mapping import Mapped
from shared.weights.storage import in_other_collections

# To show what random numbers of which few matter do.
_MORE_SAMPLES = 24


def conclude(mapped: Mapped, made: Sequence[Check], place: Divergence | None) -> Verification:
    """What is known of a pair with the weights of one map.

    Args:
      mapped: the pair.
      made: its checks, as they are decided; "structure" is the first.
      place: where the programs part, if the decisions show it.
    """
    ported, structure = mapped.ported, made[0]
    verdict = verdict_of(made)
    remark = structure.note if structure.status == "different" else mapped.remark
    divergence = None
    if verdict == "different":
        if structure.status != "different" and _both_draw(mapped):
            made, verdict = _undecided(made), "undecided"
            remark = (
                "both models draw of keys that are made of weights; make the call deterministic"
            )
        else:
            divergence = with_returned(_place(mapped, place), ported)
    if any(check.name == "updates" for check in made) and (
        verdict in PASSES or ported.outputs.lost or ported.outputs.changed
    ):
        remark = "; ".join(filter(None, (remark, remark_of_what_is_left(ported))))
    if verdict == "close":
        remark = "; ".join(filter(None, (remark, remark_of_precision(ported))))
    undecided = [check.name for check in made if check.status == "undecided"]
    if verdict == "undecided" and "forward" in undecided:
        divergence = not_finite(ported)
        remark = remark or (divergence.reason if divergence else "")
    return Verification(
        verdict=verdict,
        checks=list(made),
        rows=ported.weights.rows(),
        unmatched_linen=[path for path in mapped.linen_left if not is_draw(path)],
        unmatched_nnx=[path for path in mapped.nnx_left if not is_draw(path)],
        divergence=divergence,
        remark=remark,
        rng_leaves=list(ported.nnx.rng_leaves),
        aligned=lambda: align(ported.linen_program.graph, ported.nnx_program.graph, ported.entries),
        ported=ported,
    )


def verdict_of(checks: Sequence[Check]) -> str:
    """The verdict, where every check has the last word on what it looks at."""
    statuses = {check.name: check.status for check in checks}
    decisive = [status for name, status in statuses.items() if name != "programs"]
    if "different" in decisive:
        return "different"
    if statuses.get("programs") == "identical":
        return "identical"
    if "undecided" in decisive or decisive == ["equal"]:
        return "undecided"  # nothing but the structure was compared
    return "close" if "close" in decisive else "equal"


def with_check(
    found: Verification, check: Check, place: Divergence | None, otherwise: str
) -> Verification:
    """The verification with one more check; `otherwise` says what the port is where it differs."""
    checks = [*found.checks, check]
    if check.status != "different":
        return dataclasses.replace(found, checks=checks)
    return dataclasses.replace(
        found,
        verdict="different",
        checks=checks,
        divergence=found.divergence or place,
        remark="; ".join(filter(None, (found.remark, otherwise))),
    )


def _both_draw(mapped: Mapped) -> bool:
    return all(draws_by_itself(graph) for graph in (mapped.found.linen, mapped.found.nnx))


def _undecided(made: Sequence[Check]) -> list[Check]:
    """The checks where each side draws numbers of its own: different says nothing of the port."""
    note = "both draw random numbers of their own"
    return [
        dataclasses.replace(check, status="undecided", note=note)
        if check.status == "different"
        else check
        for check in made
    ]


def _place(mapped: Mapped, place: Divergence | None) -> Divergence | None:
    """Where the port is another; `place` is where the programs part, if the decisions show it."""
    ported = mapped.ported
    return (
        _of_weights(mapped)
        or _of_keys(mapped)
        or _of_draws_apart(mapped)
        or place
        or locate_in(ported, ported.programs)
        or result_types_apart(ported)
        or _of_rare_draws(mapped)
        or place_of_what_is_left(ported)
        or _of_draws_left(mapped)
    )


def _of_rare_draws(mapped: Mapped) -> Divergence | None:
    """Where one side draws what seldom matters: more samples show it."""
    if not any(is_draw(path) for path in (*mapped.linen_left, *mapped.nnx_left)):
        return None
    ported = mapped.ported
    places = (locate_in(ported, ported.programs, sample=i) for i in range(1, _MORE_SAMPLES))
    return next(filter(None, places), None)


def _of_keys(mapped: Mapped) -> Divergence | None:
    """Two draws of one key, where that is what differs."""
    if mapped.found.linen_left or mapped.found.nnx_left:
        return None
    if (found := of_one_key(mapped.ported)) is None:
        return None
    _, entry, side = found
    name = "NNX" if side == "nnx" else "Linen"
    return Divergence(
        f"a key is used for a second draw in {name} alone",
        drawn_at(mapped.ported.linen_program.graph, entry.linen),
        drawn_at(mapped.ported.nnx_program.graph, entry.nnx),
    )


def _of_draws_apart(mapped: Mapped) -> Divergence | None:
    """Draws of other shapes, where each side has as many that have no counterpart."""
    left = mapped.found.linen_left, mapped.found.nnx_left
    if len(left[0]) != len(left[1]) or not all(is_draw(v.leaf) for v in (*left[0], *left[1])):
        return None
    return _of_draws_left(mapped)


def _of_draws_left(mapped: Mapped) -> Divergence | None:
    """The first draws that have no counterpart."""
    sides = (
        (mapped.ported.linen_program.graph, mapped.found.linen_left),
        (mapped.ported.nnx_program.graph, mapped.found.nnx_left),
    )
    spots = [
        next((drawn_at(graph, view) for view in left if is_draw(view.leaf)), None)
        for graph, left in sides
    ]
    if not any(spots):
        return None
    said = [f"{spot.op.removeprefix('draw ')}" if spot else "none" for spot in spots]
    return Divergence(f"draws of {said[0]} in Linen, {said[1]} in NNX", spots[0], spots[1])


def _of_weights(mapped: Mapped) -> Divergence | None:
    """What is to be said of the weights, where that is what differs."""
    found, crossing, fused = mapped.found, mapped.crossing, mapped.fused
    if crossing and crossing.layers:
        return layers_exchanged(found.linen, found.nnx, crossing.layers, crossing.meant)
    if fused and not crossing:
        spots = use_of(found.linen, fused.linen), use_of(found.nnx, fused.nnx)
        return Divergence(fused.summary, *spots)
    for entry in in_other_collections(mapped.ported.entries):
        reason = f"{entry.linen} in Linen, {entry.nnx} in NNX"
        one, other = found.linen.view_of(entry.linen), found.nnx.view_of(entry.nnx)
        return Divergence(
            reason,
            use_of(found.linen, one) if one else None,
            use_of(found.nnx, other) if other else None,
        )
    return None
