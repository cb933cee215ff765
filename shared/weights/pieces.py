"""A map of pieces: whether they make up the weights, and what is left of them."""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from shared.program.graph import Graph
from shared.program.layout import inverse
from shared.program.view import View
from shared.weights.entry import Entry

Leaves = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Found:
    """A map of pieces, and the pieces that have no counterpart.

    Attributes:
      linen: the program whose pieces they are, taken apart where a weight is; nnx: the same.
    """

    entries: tuple[Entry, ...]
    linen_left: tuple[View, ...]
    nnx_left: tuple[View, ...]
    linen: Graph
    nnx: Graph


def left_over(found: Found) -> set[tuple[str, str]]:
    """The leaves of both sides that have no counterpart, or of which a part has none."""
    return {("linen", view.leaf) for view in found.linen_left} | {
        ("nnx", view.leaf) for view in found.nnx_left
    }


def covers(views: Sequence[View], path: str, shape: Sequence[int]) -> bool:
    """Whether the pieces of a leaf in `views` are all of it."""
    sizes = [math.prod(view.shape_in(shape)) for view in views if view.leaf == path]
    return sum(sizes) == math.prod(shape)


def fits(found: Found, linen_leaves: Leaves, nnx_leaves: Leaves) -> bool:
    """Whether the pieces of each leaf that is mapped make it name_of, and no two overlap."""
    for side, leaves in (("linen", linen_leaves), ("nnx", nnx_leaves)):
        pieces = collections.defaultdict(list)
        for entry in found.entries:
            view = getattr(entry, side)
            pieces[view.leaf].append(view)
        for view in getattr(found, f"{side}_left"):
            pieces[view.leaf].append(view)
        for path, views in pieces.items():
            shape = tuple(leaves[path].shape)
            # All of it, or it could not be moved without loss.
            is_whole = sum(math.prod(view.shape_in(shape)) for view in views) == math.prod(shape)
            if not is_whole or len(set(views)) != len(views):
                return False
    return True


def without(found: Found) -> Found:
    """`found` with nothing left that is mapped, as a whole or in another layout."""
    mapped = [
        {getattr(entry, side).as_it_is for entry in found.entries} for side in ("linen", "nnx")
    ]
    left = [
        tuple(
            dict.fromkeys(
                view.as_it_is
                for view in views
                if mapped[side].isdisjoint((view.as_it_is, View(view.leaf, view.index)))
            )
        )
        for side, views in enumerate((found.linen_left, found.nnx_left))
    ]
    return dataclasses.replace(found, linen_left=left[0], nnx_left=left[1])


def joined(entries: Sequence[Entry], linen_leaves: Leaves, nnx_leaves: Leaves) -> tuple[Entry, ...]:
    """The entries, the parts of a leaf put together that are parts of one leaf on both sides."""
    groups: dict[tuple[View, View], list[Entry]] = collections.defaultdict(list)
    for entry in entries:
        key = (View(entry.linen.leaf, entry.linen.index), View(entry.nnx.leaf, entry.nnx.index))
        groups[key].append(entry)
    # A piece of one leaf alone, cut in two, is in two groups with others.
    shared = collections.Counter(view for key in groups for view in key)
    found: list[Entry] = []
    for (linen, nnx), group in groups.items():
        alone = shared[linen] == shared[nnx] == 1 and not any(entry.linen.steps for entry in group)
        by = sorted({entry.by for entry in group})
        if alone and spec(linen_leaves[linen.leaf]) == spec(nnx_leaves[nnx.leaf]):
            found.append(Entry(linen, nnx, ", ".join(by)))
        else:
            found += group
    return tuple(found)


def one_sided(entry: Entry, leaves: tuple[Leaves, Leaves]) -> Entry:
    """The entry with a new layout on Linen's side alone."""
    linen, nnx = entry.linen, entry.nnx
    own = nnx.as_it_is.shape_in(leaves[1][nnx.leaf].shape)
    linen = linen.then(inverse(nnx.steps, own), leaves[0][linen.leaf].shape)
    return dataclasses.replace(entry, linen=linen, nnx=nnx.as_it_is)


def spec(leaf: Any) -> tuple[tuple[int, ...], str]:
    """Shape and dtype."""
    return tuple(leaf.shape), str(leaf.dtype)
