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


class _Kind(NamedTuple):
    """What the pieces of all layers have in common.

    Attributes:
      path: of the leaf, without the numbers of layers.
      taken: axes that scans take away, with the position where that is not the layer.
      form: what is left, its shape and dtype.
    """

    path: str
    taken: tuple[tuple[int, int | None], ...]
    form: tuple[Any, ...]


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
    votes: collections.Counter[tuple[_Kind, _Kind]] = collections.Counter()
    for entry in entries:
        for one in _kinds(entry.linen, leaves[0]):
            for other in _kinds(entry.nnx, leaves[1]):
                votes[one, other] += one.form == other.form
    members = [_members(views, specs) for views, specs in zip(pieces, leaves, strict=True)]
    taken: set[View] = set()
    pairs: list[tuple[View, View]] = []
    for (one, other), count in votes.most_common():
        first, second = members[0][one], members[1][other]
        if count < 2 or len(first) != len(second) or taken.intersection((*first, *second)):
            continue
        taken.update((*first, *second))
        pairs += zip(sorted(first, key=_layer), sorted(second, key=_layer), strict=True)
    return pairs


def _members(views: Iterable[View], leaves: Mapping[str, Any]) -> dict[_Kind, list[View]]:
    found = collections.defaultdict(list)
    for view in views:
        for kind in _kinds(view, leaves):
            found[kind].append(view)
    return found


def _kinds(view: View, leaves: Mapping[str, Any]) -> list[_Kind]:
    """Each way in which a piece may be one of several layers: a number in its path, a scan."""
    spec = leaves[view.leaf]
    axes = tuple(axis for axis, _ in view.index)
    shape = tuple(size for axis, size in enumerate(spec.shape) if axis not in axes)
    form = (view.part, shape, str(spec.dtype))
    kinds = [
        _Kind(f"{view.leaf[: found.start()]}#{view.leaf[found.end() :]}", view.index, form)
        for found in _NUMBER.finditer(view.leaf)
    ]
    if view.index:
        scanned = tuple((axis, None) for axis in axes)
        kinds.append(_Kind(view.leaf, scanned, form))
    return kinds


def _layer(view: View) -> tuple[int, ...]:
    return (*numbers(view.leaf), *(position for _, position in view.index))
