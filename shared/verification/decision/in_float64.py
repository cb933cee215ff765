"""What checks cannot tell by their limits is decided by evaluating both programs in float64."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from shared.report.result import Check, Divergence
from shared.verification.decision.half_precision import parts_without_rounding, rounding_of
from shared.verification.decision.places import Programs, decides, have_to_be_moved, locate_in
from shared.verification.locate import SAME_OUTPUT
from shared.verification.locate.values import same_in_place, size_of
from shared.verification.ported import Ported


def decide_in_float64(
    ported: Ported, checks: Sequence[Check]
) -> tuple[list[Check], Divergence | None]:
    """The checks, those decided anew that float64 can decide, and where the programs part.

    In float64 rounding and mistakes are far apart. The limits decide where the user has set them,
    and where a program computes in less than float32, so that rounding is part of it: then, without
    rounding, what parts by more than a constant that is rounded decides.
    """
    places: dict[str, Divergence | None] = {}
    decided = []
    for check in checks:
        measured = check.limit is not None and check.name != "training"
        if (
            check.status == "close"
            and measured
            and (place := parts_without_rounding(ported, check))
        ):
            note = "without rounding they part"
            decided.append(dataclasses.replace(check, status="different", note=note))
            places[check.name] = place
            continue
        rounded = rounding_of(ported, check) if check.status == "different" and measured else None
        if rounded is not None:
            status = "close" if rounded.is_finer else "different"
            check = dataclasses.replace(check, status=status, note=rounded.note)
        if check.status in ("close", "different") and measured:
            place, parts = _in_float64(ported, check, places.get("forward"))
            places[check.name] = place
            if decides(ported):
                note = "in float64 they part" if parts else f"in float64 equal to {SAME_OUTPUT:g}"
                status = "different" if parts else "close"
                check = dataclasses.replace(check, status=status, note=note)
        decided.append(check)
    found = [
        places[check.name]
        for check in decided
        if check.status == "different"
        if check.name in places
    ]
    return decided, next((place for place in found if place), None)


def _in_float64(
    ported: Ported, check: Check, forward: Divergence | None
) -> tuple[Divergence | None, bool]:
    """(where, whether) the programs behind a check part on its sample.

    Args:
      forward: where the forward programs part, if they do.
    """
    backwards = check.name == "gradients"
    if forward:
        return forward, True
    place = locate_in(ported, ported.programs, stops=backwards, sample=check.sample)
    if not backwards:
        return place, bool(place) or _moved_outputs_part(ported, ported.programs, check.sample)
    compared = ported.backward
    behind = locate_in(ported, compared, settled=ported.programs, sample=check.sample)
    if behind is None and not _moved_outputs_part(ported, compared, check.sample):
        return None, False
    # What stops a gradient, a constant that later values hide, is told in the forward program.
    return place or behind, True


def _moved_outputs_part(ported: Ported, programs: Programs, number: int) -> bool:
    """Whether outputs part that have to be moved, as weights are, to be compared."""
    if not have_to_be_moved(ported, programs):
        return False
    sample = ported.sample(number)
    linen, nnx = (
        p.returned(ported.values(side, p.graph, sample)) for side, p in enumerate(programs)
    )
    scale = float(np.median([size_of(x) for x in linen.values()]))
    given = {
        path: linen.get(path, np.zeros(spec.shape)) for path, spec in ported.weights.linen.items()
    }
    moved = ported.weights.move({path: np.asarray(x) for path, x in given.items()}, to="nnx")
    return not all(same_in_place(moved[path], nnx[path], scale) for path in moved if path in nnx)
