"""A map that treats all layers alike.

Where a port leaves out a layer, or repeats one, the dataflow in front of the place and that behind
it speak for different maps, and layers are mapped in part. What most layers say then holds for all.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from shared.program.view import View
from shared.weights.entry import Entry
from shared.weights.names import layer_of

_NUMBER = re.compile(r"\d+")


class Family(NamedTuple):
    """What the pieces of all layers have in common.

    Attributes:
      path: of the leaf, without the numbers of layers.
      taken: axes that scans take away, with the position where that is not the layer.
      part: of the axes of which only a part is meant.
    """

    path: str
    taken: tuple[tuple[int, int | None], ...]
    part: tuple[tuple[int, int, int], ...]


def sibling_pairs(
    entries: Sequence[Entry], leaves: Sequence[Mapping[str, Any]]
) -> list[tuple[View, View]]:
    """Pairs that put a weight with its siblings: the scale of a norm where its bias is.

    Args:
      entries: pairs that the dataflow found.
      leaves: {path: shape and dtype} of Linen, and of NNX.
    """
    votes: collections.Counter[tuple[_Module, _Module]] = collections.Counter(
        (_module(entry.linen), _module(entry.nnx)) for entry in entries
    )
    best: tuple[dict[_Module, _Module], dict[_Module, _Module]] = ({}, {})
    for (linen, nnx), count in votes.most_common():
        if count > 1:
            best[0].setdefault(linen, nnx)
            best[1].setdefault(nnx, linen)
    nnx_views = {(_module(entry.nnx), _name(entry.nnx)): entry.nnx for entry in entries}
    nnx_views |= {(_module(View(path)), _name(View(path))): View(path) for path in leaves[1]}
    pairs = []
    for entry in entries:
        module = best[0].get(_module(entry.linen))
        strays = module is not None and module != _module(entry.nnx)
        if module is None or not strays or best[1].get(module) != _module(entry.linen):
            continue
        meant = nnx_views.get((module, _name(entry.linen)))
        if meant and _spec(meant, leaves[1]) == _spec(entry.linen, leaves[0]):
            pairs.append((entry.linen, meant))
    return pairs


_Module = tuple[str, tuple[tuple[int, int], ...]]


def _module(view: View) -> _Module:
    """The path of the module that a weight is in, with its layer; collections are left out."""
    return "/".join(view.leaf.split("/")[1:-1]), view.index


def _name(view: View) -> tuple[str, str]:
    return view.leaf.split("/")[0], view.leaf.rsplit("/", 1)[-1]


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
    votes: collections.Counter[tuple[Family, Family]] = collections.Counter()
    for entry in entries:
        for one in families(entry.linen):
            for other in families(entry.nnx):
                votes[one, other] += 1
    members = [_members(views) for views in pieces]
    taken: set[View] = set()
    pairs: list[tuple[View, View]] = []
    for (one, other), count in votes.most_common():
        first, second = members[0][one], members[1][other]
        if count < 2 or len(first) != len(second) or taken.intersection((*first, *second)):
            continue
        if {_spec(a, leaves[0]) for a in first} != {_spec(b, leaves[1]) for b in second}:
            continue
        taken.update((*first, *second))
        pairs += zip(sorted(first, key=layer_of), sorted(second, key=layer_of), strict=True)
    return pairs


def _members(views: Iterable[View]) -> dict[Family, list[View]]:
    found = collections.defaultdict(list)
    for view in views:
        for family in families(view):
            found[family].append(view)
    return found


def families(view: View) -> list[Family]:
    """Each way in which a piece may be one of several layers: a number in its path, a scan."""
    found = [
        Family(f"{view.leaf[: number.start()]}#{view.leaf[number.end() :]}", view.index, view.part)
        for number in _NUMBER.finditer(view.leaf)
    ]
    if view.index:
        scanned = tuple((axis, None) for axis, _ in view.index)
        found.append(Family(view.leaf, scanned, view.part))
    return found


def _spec(view: View, leaves: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    spec = leaves[view.leaf]
    return dataclasses.replace(view, part=()).shape_in(spec.shape), str(spec.dtype)
