"""The result of a verification, as its faces show it: the verdict, and what it rests on."""

import dataclasses
from collections.abc import Callable
from typing import Any

from shared.errors import ComposedLiftsError
from shared.program.source import Place

STATUSES = ("identical", "equal", "close", "different", "undecided")
PASSES = ("identical", "equal", "close")
# How many weights, or outputs, are named in one line.
NAMED = 4
# Aligning takes time with the square of the number of operations: of more, these are aligned.
MAX_OPERATIONS = 4_000


@dataclasses.dataclass(frozen=True)
class Check:
    """What one check found, every measured value beside its limit.

    Attributes:
      status: one of `STATUSES`.
      max_abs: of the differences; max_rel, max_ulp: the same relative to the largest number of the
        array, and in units in its last place; None where nothing was measured.
      limit: what "close" allows, in words; None where only equality counts.
      worst_leaf: the path of the largest difference.
      note: what else there is to say, in one line.
      sample: on which random numbers the difference is largest.
    """

    name: str
    status: str
    max_abs: float | None = None
    max_ulp: float | None = None
    max_rel: float | None = None
    limit: str | None = None
    worst_leaf: str | None = None
    seconds: float = 0.0
    note: str = ""
    sample: int = 0


@dataclasses.dataclass(frozen=True)
class Spot:
    """A place in one of the programs.

    Attributes:
      op: the operation, and its results' shapes.
      layer: the index of each scan around it.
      values: what came out of it, in short.
    """

    file: str
    line: int
    source: str
    op: str
    layer: tuple[int, ...]
    values: str


@dataclasses.dataclass(frozen=True)
class Divergence:
    """Where two programs part, and in what.

    Attributes:
      is_near: whether what they part in is as near as a number and that number in half precision.
      is_another_function: whether one computes the error function where the other does not: nothing
        else amounts to it, however near its values are.
    """

    reason: str
    linen: Spot | None
    nnx: Spot | None
    is_near: bool = False
    is_another_function: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """Operations in a row that one line of each source computes.

    Attributes:
      status: "same": from the same values in the same way; "other values": in the same way;
        "only here": by one program alone.
      linen: the line in the Linen source, nnx: in the NNX source; None where there is none.
      operations: their names, those of Linen if both have them.
      shape: of the last result.
    """

    status: str
    linen: Place | None
    nnx: Place | None
    operations: tuple[str, ...]
    shape: tuple[int, ...]


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
      rng_leaves: the random state of NNX, which Linen keeps out of its variables.
      aligned: makes the two programs side by side, line by line.
      ported: the two programs and the map, from which this was found.
    """

    verdict: str
    checks: list[Check]
    rows: list[dict]
    unmatched_linen: list[str] = dataclasses.field(default_factory=list)
    unmatched_nnx: list[str] = dataclasses.field(default_factory=list)
    divergence: Divergence | None = None
    remark: str = ""
    rng_leaves: list[str] = dataclasses.field(default_factory=list)
    aligned: Callable[[], list[Row]] = dataclasses.field(default=list, repr=False)
    ported: Any = dataclasses.field(default=None, repr=False)

    def raise_if_different(self) -> "Verification":
        """This, if the port is identical, equal or close.

        Raises:
          DifferentError: it is different, or undecided.
        """
        if self.verdict in PASSES:
            return self
        words = [self.verdict, self.remark]
        if self.divergence:
            words.append(self.divergence.reason)
            for side in ("linen", "nnx"):
                spot = getattr(self.divergence, side)
                if spot:
                    words.append(f"{side}: {spot.file}:{spot.line}: {spot.source}")
        raise DifferentError("; ".join(word for word in words if word))
