"""What no sample shows is decided by looking for it in both programs."""

import dataclasses
from collections.abc import Sequence

from shared.models.gradients import NoGradientError
from shared.report.result import Check, Divergence
from shared.verification.decision.places import MAX_EVALUATED, decides, outputs_of_both
from shared.verification.locate import locate
from shared.verification.ported import Ported

# (inputs, weights) times those of a sample: limits of activations, 6 say, are reached by the first,
# what only guards against overflow by the second.
LARGE = ((10.0, 1.0), (100.0, 3.0))
# What weights that are one number are set to: limits of a temperature, exp(4.6) say, are reached.
LARGE_SCALARS = (10.0, -10.0)
# Near which end all uniform draws are: a mask of few examples is all true, or all false.
ENDS = {"low": "small", "high": "large"}

_UNSEEN = "they part where no sample shows it: a constant, another branch"


def decide_unseen(ported: Ported, checks: Sequence[Check]) -> tuple[list[Check], Divergence | None]:
    """The checks, those decided anew where the programs part in what no sample shows.

    That is a branch that none takes, a condition, a guard, a limit that only large numbers reach.
    Where a program computes in less than float32 an epsilon is lost in the rounding of the samples.
    """
    statuses = {check.name: check.status for check in checks}
    sizes = [len(p.graph.nodes) for p in ported.programs]
    if statuses.get("programs") == "identical" or max(sizes) > MAX_EVALUATED:
        return list(checks), None
    for name, look in (("forward", _unseen_forward), ("gradients", _unseen_gradients)):
        if name in statuses:
            note, place = look(ported)
            if place is not None:
                decided = [
                    dataclasses.replace(check, status="different", note=note)
                    if check.name == name
                    else check
                    for check in checks
                ]
                return decided, place
    return list(checks), None


def _unseen_forward(ported: Ported) -> tuple[str, Divergence | None]:
    programs = ported.programs
    for number in range(ported.samples):
        place = locate(ported, programs, ported.sample(number), [], unseen=True)
        if place is not None:
            return _UNSEEN, place
    outputs = outputs_of_both(ported, programs)
    for inputs, weights in LARGE if decides(ported) else ():
        place = locate(ported, programs, ported.sample(0, inputs, weights), outputs)
        if place is not None:
            return f"they part where inputs are {inputs:g} times as large", place
    for scalar in LARGE_SCALARS if decides(ported) and ported.has_scalars else ():
        place = locate(ported, programs, ported.sample(0, scalars=scalar), outputs)
        if place is not None:
            return f"they part where weights that are one number are {scalar:g}", place
    for end, size in ENDS.items() if decides(ported) and ported.draws else ():
        place = locate(ported, programs, ported.sample(0, end=end), outputs)
        if place is not None:
            return f"they part where all uniform draws are {size}", place
    return "", None


def _unseen_gradients(ported: Ported) -> tuple[str, Divergence | None]:
    try:
        compared = ported.backward
    except NoGradientError:
        return "", None
    if max(len(p.graph.nodes) for p in compared) > MAX_EVALUATED:
        return "", None
    return _UNSEEN, locate(ported, compared, ported.sample(0), [], ported.programs, unseen=True)
