"""Comparison: what two checkpoints have in common, leaf by leaf."""

import dataclasses

from shared.checkpoint.planning.common import Common
from shared.checkpoint.stored import Path
from shared.checkpoint.tree.layers import Layout


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How far numbers may be apart: as in `numpy.isclose`; 0 and 0 for the same bits."""

    atol: float = 0.0
    rtol: float = 0.0


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf of both checkpoints, or of one.

    Attributes:
      path: in the form in which both are compared.
      first, second: in each checkpoint, "" where it is not there.
      status: "equal", "close", "different", "shape", "dtype", "only in 1", "only in 2".
      what: how it differs, in words.
      max_abs: the largest difference of a number, None where none can be said.
    """

    path: Path
    first: str
    second: str
    status: str
    what: str = ""
    max_abs: float | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What two checkpoints have in common.

    Attributes:
      sides: both.
      apis: "linen" or "nnx" of each.
      layouts: how the layers of each were laid out to be compared.
      rows: one for each leaf.
      has_manifest: of each, whether its bytes were held against a manifest.
      tolerance: of numbers, None for the same bits.
    """

    sides: tuple[Common, Common]
    apis: tuple[str, str]
    layouts: tuple[Layout, Layout]
    rows: tuple[Row, ...]
    has_manifest: tuple[bool, bool]
    tolerance: Tolerance | None = None

    @property
    def is_equal(self) -> bool:
        """Whether all leaves are equal, or close where that was asked for."""
        return all(row.status in ("equal", "close") for row in self.rows)
