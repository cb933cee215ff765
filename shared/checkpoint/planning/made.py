"""A leaf of a target: what of which leaves of the source it is made of."""

import dataclasses
from collections.abc import Mapping

from shared.checkpoint.stored import Leaf, Path
from shared.program.view import View

WHOLE = View("")


@dataclasses.dataclass(frozen=True)
class Piece:
    """What of a leaf of the source stands where in one of the target."""

    source: Path
    here: View = WHOLE
    there: View = WHOLE


@dataclasses.dataclass(frozen=True)
class Made:
    """A leaf of the target and the pieces that make it up; there are none of an empty one."""

    leaf: Leaf
    pieces: tuple[Piece, ...] = ()

    @property
    def is_copy(self) -> bool:
        """Whether it has the numbers of one leaf of the source, as they are."""
        return len(self.pieces) == 1 and self.pieces[0].here == self.pieces[0].there == WHOLE


Plan = Mapping[Path, Made]
