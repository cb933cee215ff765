"""Every check by its name, and how they are made."""

import dataclasses
from collections.abc import Callable, Sequence

from shared.report.result import Check
from shared.verification.checks.forward import check_forward, check_updates
from shared.verification.checks.gradients import check_gradients
from shared.verification.checks.programs import check_programs
from shared.verification.checks.training import check_training
from shared.verification.ported import Ported, timed

CHECKS: dict[str, Callable[[Ported], Check]] = {
    "programs": check_programs,
    "forward": check_forward,
    "updates": check_updates,
    "gradients": check_gradients,
    "training": check_training,
}
ALL_CHECKS = ("structure", *CHECKS, "training_mode", "initial", "metadata")

Progress = Callable[[str], None]


def make(ported: Ported, checks: Sequence[str], progress: Progress) -> list[Check]:
    """The checks that `checks` names, "structure" aside.

    Those that have been made of `ported` are not made again.
    """
    wanted = [name for name in CHECKS if name in checks]
    for name in wanted:
        progress(name)
        if name not in ported.made:
            ported.made[name] = _noted(timed(CHECKS[name], ported), ported)
    return [ported.made[name] for name in wanted]


def _noted(check: Check, ported: Ported) -> Check:
    """With the note that the models cannot be run, where a check has run them otherwise."""
    if check.name == "programs" or not ported.cannot_run:
        return check
    why = f"computed operation by operation, for XLA cannot run it here: {ported.cannot_run[0]}"
    return dataclasses.replace(check, note="; ".join(filter(None, (check.note, why))))
