"""What is known of a pair: the verdict, and what it rests on."""

import dataclasses
from collections.abc import Sequence

from shared.alignment import Row, align
from shared.checks.base import Check, Ported
from shared.errors import ComposedLiftsError
from shared.locate import Divergence

PASSES = ("identical", "equal", "close")


class DifferentError(ComposedLiftsError, AssertionError):
    """The port is not equal to the model."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class Verification:
    """What is known of a pair.

    Attributes:
      verdict: "identical": the programs are the same operation by operation, hence equal for every
        input; "equal": bitwise on all samples; "close": within the limits; "different";
        "undecided".
      rows: the weight map, a row for each pair of leaves.
      unmatched_linen: paths without a counterpart; unmatched_nnx: the same.
      remark: what else there is to say, in one line.
      ported: the two programs and the map, from which this was found.
    """

    verdict: str
    checks: list[Check]
    rows: list[dict]
    unmatched_linen: list[str] = dataclasses.field(default_factory=list)
    unmatched_nnx: list[str] = dataclasses.field(default_factory=list)
    divergence: Divergence | None = None
    remark: str = ""
    ported: Ported | None = dataclasses.field(default=None, repr=False)

    @property
    def rng_leaves(self) -> list[str]:
        """The random state of NNX, which Linen keeps out of its variables."""
        return list(self.ported.nnx.rng_leaves) if self.ported else []

    def aligned(self) -> list[Row]:
        """The two programs side by side, line by line."""
        if self.ported is None:
            return []
        programs = (self.ported.linen_program.graph, self.ported.nnx_program.graph)
        return align(*programs, self.ported.entries)

    def raise_if_different(self) -> "Verification":
        """This, if the port is identical, equal or close.

        Raises:
          DifferentError: it is different, or undecided.
        """
        if self.verdict not in ("different", "undecided"):
            return self
        words = [self.verdict, self.remark]
        if self.divergence:
            words.append(self.divergence.reason)
            for side in ("linen", "nnx"):
                spot = getattr(self.divergence, side)
                if spot:
                    words.append(f"{side}: {spot.file}:{spot.line}: {spot.source}")
        raise DifferentError("; ".join(word for word in words if word))


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
