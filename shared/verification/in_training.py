"""Both models as they are called in training, where the call of the pair is one of evaluation."""

import dataclasses
from collections.abc import Sequence

from shared.models.pure import PureModel
from shared.models.pure_pair import PurePair
from shared.program.drawn_leaves import is_draw
from shared.report.result import PASSES, STATUSES, Check, Verification

NAME = "training_mode"
# What is compared of it: what three steps of training show, gradients show.
CHECKS = ("programs", "forward", "updates", "gradients")


def in_training(pure: PurePair) -> PurePair | None:
    """The pair as it is called in training; None where nothing in it is switched off."""
    if not (pure.has_training_call or pure.linen.switches or pure.nnx.switches):
        return None
    return dataclasses.replace(pure, linen=_switched(pure.linen), nnx=_switched(pure.nnx))


def _switched(model: PureModel) -> PureModel:
    assert model.in_training is not None  # what has switches, or words for them, has both calls
    leaves = {path: leaf for path, leaf in model.leaves.items() if not is_draw(path)}
    return dataclasses.replace(model, apply=model.in_training, leaves=leaves, draws=None)


def merged(found: Verification, trained: Verification, seconds: float) -> Verification:
    """The verification of a pair with what was found of it in training."""
    worst = _worst(trained.checks)
    check = dataclasses.replace(
        worst, name=NAME, status=trained.verdict, seconds=seconds, note=_note(trained, worst)
    )
    checks = [*found.checks, check]
    if trained.verdict == "different":
        return dataclasses.replace(
            found,
            verdict="different",
            checks=checks,
            divergence=trained.divergence,
            remark="; ".join(
                filter(None, ("equal when deterministic", trained.remark, found.remark))
            ),
            aligned=trained.aligned,
        )
    verdict = found.verdict
    if trained.verdict in PASSES:
        verdict = max(verdict, trained.verdict, key=STATUSES.index)
    return dataclasses.replace(found, verdict=verdict, checks=checks)


def _worst(checks: Sequence[Check]) -> Check:
    order = ("identical", "undecided", "equal", "close", "different")
    return max(checks, key=lambda check: order.index(check.status))


def _note(trained: Verification, worst: Check) -> str:
    if worst.status in ("identical", "equal"):
        return trained.checks[0].note
    return f"{worst.name}: {worst.note or worst.status}"
