"""Whether a weight map is one-to-one: each number of either side is one number of the other."""

import collections
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shared.program.cover import overlaps, shape_of
from shared.weights.entry import Entry

# Of a leaf whose entries overlap: what is added to is small, as statistics are.
_MOST_NUMBERS = 2**24


def check_one_to_one(
    entries: Iterable[Entry], linen: Mapping[str, Any], nnx: Mapping[str, Any]
) -> None:
    """Stops unless the entries that are weights make up all leaves of both sides.

    Args:
      entries: of a map.
      linen: {path: shape and dtype} of the leaves of Linen that are mapped.
      nnx: the same of NNX.

    Raises:
      ValueError: a leaf is named that is not made up, or of which something is two things.
    """
    of_linen: dict[str, list[Entry]] = collections.defaultdict(list)
    of_nnx: dict[str, list[Entry]] = collections.defaultdict(list)
    for entry in entries:
        if not entry.is_draw:
            _check_entry(entry, linen, nnx)
            of_linen[entry.linen.leaf].append(entry)
            of_nnx[entry.nnx.leaf].append(entry)
    twice: list[list[Entry]] = []
    for leaf, spec in linen.items():
        if _is_twice(leaf, [entry.linen for entry in of_linen[leaf]], spec):
            twice.append(of_linen[leaf])
    for leaf, spec in nnx.items():
        if _is_twice(leaf, [entry.nnx for entry in of_nnx[leaf]], spec):
            twice.append(of_nnx[leaf])
    for same in twice:
        _check_agree(same, linen, nnx)


def _check_entry(entry: Entry, linen: Mapping[str, Any], nnx: Mapping[str, Any]) -> None:
    shapes = []
    for view, specs in ((entry.linen, linen), (entry.nnx, nnx)):
        if view.leaf not in specs:
            raise ValueError(f"{view} is of no leaf that it lists")
        shapes.append(shape_of(view, specs[view.leaf].shape))
    if shapes[0] != shapes[1]:
        raise ValueError(f"{entry.linen} {shapes[0]} cannot be {entry.nnx} {shapes[1]}")


def _is_twice(leaf: str, views: list, spec: Any) -> bool:
    try:
        return overlaps(views, spec.shape)
    except ValueError as error:
        raise ValueError(f"{leaf}: {error}") from error


def _check_agree(same: list[Entry], linen: Mapping[str, Any], nnx: Mapping[str, Any]) -> None:
    """Stops unless entries that overlap say the same, as one of all and one of each layer do."""
    first = same[0]
    for entry in same:
        if (entry.linen.leaf, entry.nnx.leaf) != (first.linen.leaf, first.nnx.leaf):
            raise ValueError(f"{first.linen} is {first.nnx}, and {entry.linen} is {entry.nnx}")
    shape, size = linen[first.linen.leaf].shape, math.prod(linen[first.linen.leaf].shape)
    if size > _MOST_NUMBERS:
        raise ValueError(f"{first.linen.leaf}: parts of it overlap")
    numbers, made = np.arange(size).reshape(shape), np.full(nnx[first.nnx.leaf].shape, -1)
    for entry in same:
        here, there = entry.linen.of(numbers), entry.nnx.of(made)
        if ((there != here) & (there >= 0)).any():
            raise ValueError(f"{entry.linen} is {entry.nnx}, and something else before")
        entry.nnx.put(made, here)
    if np.unique(made).size != size:
        raise ValueError(f"{first.linen.leaf}: a part of it is two parts of {first.nnx.leaf}")
