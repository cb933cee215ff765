"""Several steps with the pair's own optimizer, and its own steps if it has some."""

from collections.abc import Sequence

from shared.models.gradients import NoGradientError
from shared.models.pure_pair import PurePair
from shared.models.training import Training
from shared.report.result import NAMED, Check
from shared.verification.checks.gradients import without_gradients
from shared.verification.ported import Ported
from shared.verification.sample import has_nan
from shared.verification.training.apart import Apart
from shared.verification.training.judge import Finding, first_difference
from shared.verification.training.redrawn import draw_alike, redraws_apart
from shared.verification.training.steps import STEPS, Sides

NAME = "training"


def checks_of_call(pure: PurePair, checks: Sequence[str]) -> Sequence[str]:
    """Those of `checks` that are made of the call: an optimizer of the pair's own comes after."""
    if pure.training is None or NAME not in checks:
        return checks
    rest = [name for name in checks if name != NAME]
    # Which weight is which has to be settled by what is computed with them.
    settling = {"programs", "forward", "gradients"}
    return rest if settling.intersection(rest) else [*rest, "gradients"]


def check_own_training(training: Training, ported: Ported) -> Check:
    """`STEPS` steps on new inputs each: the first of them, and the first leaf, that differ.

    Raises:
      InputError: a step, or an optimizer, cannot be used.
    """
    try:
        return _check(Sides(ported, training))
    except NoGradientError:
        return without_gradients(ported, NAME)


def _check(sides: Sides) -> Check:
    alike, notes = draw_alike(sides)
    nearest: Apart | None = None
    for step in sides.steps():
        if any(has_nan(x) for x in (*step.loss[0].values(), *step.after[0].values())):
            note = f"step {step.number}: Linen's weights or its loss are not numbers"
            return Check(NAME, "undecided", note=note)
        found, apart = first_difference(sides, step, alike)
        if found is not None:
            return _different(found)
        if apart is not None and (nearest is None or apart.beside > nearest.beside):
            nearest = apart
    if sides.training.has_steps and (found := redraws_apart(sides)) is not None:
        return _different(found)
    if step.not_compared:
        named = ", ".join(step.not_compared[:NAMED])
        more = f" and {len(step.not_compared) - NAMED} more" if step.not_compared[NAMED:] else ""
        notes.append(f"not compared of the optimizers' states: {named}{more}")
    if sides.training.linen.not_held:
        held = ", ".join(sides.training.linen.not_held)
        notes.append(f"not compared, for the state of Linen does not hold it: {held}")
    if not alike:
        return Check(NAME, "undecided", note="; ".join(notes))
    of_whom = "the pair" if sides.training.has_steps else "its optimizer"
    note = "; ".join([f"{STEPS} steps of {of_whom}", *notes])
    if nearest is None:
        return Check(NAME, "equal", max_abs=0.0, note=note)
    limit = f"{nearest.limit:.2g}"
    return Check(NAME, "close", nearest.gap, limit=limit, worst_leaf=nearest.worst, note=note)


def _different(found: Finding) -> Check:
    return Check(
        NAME,
        "different",
        max_abs=found.gap,
        limit=f"{found.limit:.2g}",
        worst_leaf=found.leaf,
        note=str(found),
    )
