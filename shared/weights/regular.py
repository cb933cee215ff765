"""A map that treats all layers alike.

Where a port leaves out a layer, or repeats one, the dataflow in front of the place and that behind
it speak for different maps, and layers are mapped in part. What most layers say then holds for all.
"""

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from shared.program.view import View
from shared.weights.names import numbers
from shared.weights.weight_map import Entry

_NUMBER = re.compile(r"\d+")


class Kind(NamedTuple):
    """What the pieces of all layers have in common.

    Attributes:
      path: of the leaf, without the numbers of layers.
      taken: axes that scans take away, with the position where that is not the layer.
      part: of the axes of which only a part is meant.
    """

    path: str
    taken: tuple[tuple[int, int | None], ...]
    part: tuple[tuple[int, int, int], ...]


def regular_pairs(
    entries: Iterable[Entry],
    pieces: Sequence[Iterable[View]],
    leaves: Sequence[Mapping[str, Any]],
) -> list[tuple[View, View]]:
    """Pairs of all layers of those weights of which most layers are paired.

    Args:
      entries: pairs that the dataflow found.
      pieces: all pieces of Linen, also unused ones, and those of NNX.
      leaves: {path: shape and dtype} of Linen, and of NNX.
    """
    votes: collections.Counter[tuple[Kind, Kind]] = collections.Counter()
    for entry in entries:
        for one in kinds(entry.linen):
            for other in kinds(entry.nnx):
                votes[one, other] += 1
    members = [_members(views) for views in pieces]
    taken: set[View] = set()
    pairs: list[tuple[View, View]] = []
    for (one, other), count in votes.most_common():
        first, second = members[0][one], members[1][other]
        if count < 2 or len(first) != len(second) or taken.intersection((*first, *second)):
            continue
        if {_form(a, leaves[0]) for a in first} != {_form(b, leaves[1]) for b in second}:
            continue
        taken.update((*first, *second))
        pairs += zip(sorted(first, key=_layer), sorted(second, key=_layer), strict=True)
    return pairs


def _members(views: Iterable[View]) -> dict[Kind, list[View]]:
    found = collections.defaultdict(list)
    for view in views:
        for kind in kinds(view):
            found[kind].append(view)
    return found


def kinds(view: View) -> list[Kind]:
    """Each way in which a piece may be one of several layers: a number in its path, a scan."""
    found = [
        Kind(f"{view.leaf[: number.start()]}#{view.leaf[number.end() :]}", view.index, view.part)
        for number in _NUMBER.finditer(view.leaf)
    ]
    if view.index:
        scanned = tuple((axis, None) for axis, _ in view.index)
        found.append(Kind(view.leaf, scanned, view.part))
    return found


def _form(view: View, leaves: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    spec = leaves[view.leaf]
    taken = {axis for axis, _ in view.index}
    shape = (size for axis, size in enumerate(spec.shape) if axis not in taken)
    return tuple(shape), str(spec.dtype)


def _layer(view: View) -> tuple[int, ...]:
    return (*numbers(view.leaf), *(position for _, position in view.index))
