"""Conversion: what becomes of a checkpoint, before it is written and after."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.planning.made import Plan
from shared.checkpoint.stored import Leaves, Path, Reader
from shared.checkpoint.tree.roles import LINEN, NNX, Roles

# How it is known what becomes of which leaf.
MANIFEST, RULE, WEIGHT_MAP = "manifest", "rule", "weight map"


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What is converted, or was.

    Attributes:
      source: the checkpoint that is read.
      roles: of its leaves.
      plan: what is made.
      by: how it is known what becomes of which leaf: `MANIFEST`, `RULE` or `WEIGHT_MAP`.
      manifest: that came with the source.
      target: where the leaves are, "" before they are written.
      sha256: of the bytes of each that was written.
      not_finite: {path in the source: how many numbers of it are NaN or infinite}.
      axis_names: {path in the target: the name of each axis}, where they are known.
      notes: what a user is to know of it.
    """

    source: Reader
    roles: Roles
    plan: Plan
    by: str
    manifest: Manifest | None
    target: str = ""
    sha256: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    not_finite: Mapping[Path, int] = dataclasses.field(default_factory=dict)
    axis_names: Mapping[str, list] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def to(self) -> str:
        """The API of what is made."""
        return NNX if self.roles.api == LINEN else LINEN

    @property
    def leaves(self) -> Leaves:
        """Those of what is made."""
        return {path: made.leaf for path, made in self.plan.items()}

    @property
    def nbytes(self) -> int:
        """How many bytes of numbers are written."""
        return self.nbytes_of(self.plan)

    def nbytes_of(self, paths: Iterable[Path]) -> int:
        """How many bytes of numbers some of the leaves are."""
        return sum(self.plan[path].leaf.nbytes for path in paths)
