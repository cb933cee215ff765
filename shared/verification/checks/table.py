"""Every check by its name, and how they are made."""

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
ALL_CHECKS = ("structure", *CHECKS)

Progress = Callable[[str], None]


def make(ported: Ported, checks: Sequence[str], progress: Progress) -> list[Check]:
    """The checks that `checks` names, "structure" aside.

    Those that have been made of `ported` are not made again.
    """
    wanted = [name for name in CHECKS if name in checks]
    for name in wanted:
        progress(name)
        if name not in ported.made:
            ported.made[name] = timed(CHECKS[name], ported)
    return [ported.made[name] for name in wanted]
