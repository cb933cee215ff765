"""A weight map with the paths of both sides, in the direction of a conversion."""

import collections
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from shared.checkpoint.planning.sides import Side, sides
from shared.checkpoint.tree.roles import LINEN, NNX, Roles
from shared.program.view import View
from shared.weights.weight_map import WeightMap


@dataclasses.dataclass(frozen=True)
class Moves:
    """A weight map from the side of the source to the other one.

    Attributes:
      source, target: the paths of both.
      source_leaves, leaves: {name: shape and dtype} of both sides.
      pieces: {name on the target's side: views of what it is made of, of what they make up}.
    """

    source: Side
    target: Side
    source_leaves: Mapping[str, Any]
    leaves: Mapping[str, Any]
    pieces: Mapping[str, list[tuple[View, View]]]

    @property
    def names(self) -> set[str]:
        """All names on the side of the source."""
        return {here.leaf for pieces in self.pieces.values() for here, _ in pieces}

    @functools.cached_property
    def kept(self) -> set[str]:
        """Those that have their name and their layout on the other side too."""
        return {
            pieces[0][0].leaf
            for name, pieces in self.pieces.items()
            if all(here == dataclasses.replace(there, leaf=here.leaf) for here, there in pieces)
            and {self.source.module_path(here.leaf) for here, _ in pieces}
            == {self.target.module_path(name)}
            and self.source_leaves[pieces[0][0].leaf].shape == self.leaves[name].shape
        }


def moves_of(roles: Roles, weights: WeightMap, wrapper: str) -> Moves:
    """What a map moves of a checkpoint, and where it stands in that and in the target.

    Args:
      roles: of the leaves.
      weights: the map.
      wrapper: the last name of each leaf of an NNX target, "value" or "".
    """
    both = sides(weights, roles.nested, roles.is_training, wrapper)
    to_nnx = roles.api == LINEN
    pieces: dict[str, list[tuple[View, View]]] = collections.defaultdict(list)
    for entry in weights.entries:
        if not entry.is_draw:
            here, there = (entry.linen, entry.nnx) if to_nnx else (entry.nnx, entry.linen)
            pieces[there.leaf].append((here, there))
    specs = (weights.linen, weights.nnx) if to_nnx else (weights.nnx, weights.linen)
    return Moves(both[roles.api], both[NNX if to_nnx else LINEN], *specs, pieces)
