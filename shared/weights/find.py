"""Finds which weight is which: whole leaves, layers of a stack, or parts of a fused weight."""

import collections
import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shared.errors import InputError
from shared.program.flatten import flatten
from shared.program.graph import Graph
from shared.program.layout import inverse
from shared.program.unfuse import unfuse
from shared.program.unstack import unstack
from shared.program.view import View
from shared.weights.match import Matcher
from shared.weights.names import similarity
from shared.weights.regular import regular_pairs, sibling_pairs
from shared.weights.weight_map import Entry

Leaves = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Found:
    """A map of pieces, and the pieces that have no counterpart.

    Attributes:
      linen: the program whose pieces they are, cut where a weight is; nnx: the same.
    """

    entries: tuple[Entry, ...]
    linen_left: tuple[View, ...]
    nnx_left: tuple[View, ...]
    linen: Graph
    nnx: Graph


def find(
    linen: Graph,
    nnx: Graph,
    linen_leaves: Leaves,
    nnx_leaves: Leaves,
    pinned: Mapping[str, str],
) -> Found:
    """The pieces of `linen` and `nnx` that are the same weights.

    Args:
      linen: the graph of the Linen program; nnx: that of the NNX program.
      linen_leaves: {path: shape and dtype}, also of leaves that the program does not use.
      nnx_leaves: the same of NNX.
      pinned: {Linen's path: NNX's path} of leaves that the user has mapped, either with a place in
        the leaf: `params/qkv/kernel[:, 0:4]`.

    Raises:
      InputError: `pinned` names what is not there.
    """
    pins = _pins(pinned, linen_leaves, nnx_leaves)
    leaves = (linen_leaves, nnx_leaves)
    best = _match(linen, nnx, *leaves, pins)
    cuts = any(view.part for pin in pins for view in pin)
    for way in _WAYS:
        if not (best.linen_left and best.nnx_left) and not (way.cuts and cuts):
            continue
        graphs = (linen, nnx)
        if way.unstacks:
            axes = _stacked_on_one_side(best, leaves)
            if not any(axes):
                continue
            graphs = unstack(linen, axes[0]), unstack(nnx, axes[1])
        if way.cuts:
            graphs = unfuse(linen), unfuse(nnx)
        used = (flatten(graphs[0]), flatten(graphs[1])) if way.lays_out else graphs
        found = _match(*used, *leaves, pins)
        entries = tuple({_one_sided(entry, leaves): None for entry in found.entries})
        if way.cuts:
            entries = _joined(entries, *leaves)
        # The programs are those with the weights as they are.
        found = _without(Found(entries, found.linen_left, found.nnx_left, *graphs))
        if _fits(found, *leaves) and len(_left(found)) < len(_left(best)):
            best = found
    return _as_pinned(best, pins, leaves)


class _Way(NamedTuple):
    """How programs are rewritten in which weights have no counterpart as they are.

    Attributes:
      unstacks: weights that one side has stacked and vmapped are taken apart.
      cuts: weights are cut where what is computed with them is cut.
      lays_out: weights are laid out as they are used.
    """

    unstacks: bool = False
    cuts: bool = False
    lays_out: bool = False


_WAYS = (
    _Way(lays_out=True),
    _Way(cuts=True),
    _Way(cuts=True, lays_out=True),
    _Way(unstacks=True),
    _Way(unstacks=True, lays_out=True),
)


def _stacked_on_one_side(
    found: Found, leaves: tuple[Leaves, Leaves]
) -> tuple[dict[str, int], dict[str, int]]:
    """{path: axis} of Linen's leaves that may be a stack of several of NNX, and the reverse."""
    left = (found.linen_left, found.nnx_left)
    forms = [
        collections.Counter(
            (view.shape_in(specs[view.leaf].shape), str(specs[view.leaf].dtype)) for view in views
        )
        for views, specs in zip(left, leaves, strict=True)
    ]
    axes: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for side, (views, specs) in enumerate(zip(left, leaves, strict=True)):
        for view in views:
            shape, dtype = view.shape_in(specs[view.leaf].shape), str(specs[view.leaf].dtype)
            for axis, size in enumerate(shape):
                member = (*shape[:axis], *shape[axis + 1 :])
                if not view.part and forms[1 - side][member, dtype] >= size > 1:
                    axes[side].setdefault(view.leaf, view.axis(axis))
                    break
    return axes


def _one_sided(entry: Entry, leaves: tuple[Leaves, Leaves]) -> Entry:
    """The entry with a new layout on Linen's side alone."""
    linen, nnx = entry.linen, entry.nnx
    own = nnx.as_it_is.shape_in(leaves[1][nnx.leaf].shape)
    linen = linen.then(inverse(nnx.steps, own), leaves[0][linen.leaf].shape)
    return dataclasses.replace(entry, linen=linen, nnx=nnx.as_it_is)


def _without(found: Found) -> Found:
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


def _as_pinned(
    found: Found, pins: Sequence[tuple[View, View]], leaves: tuple[Leaves, Leaves]
) -> Found:
    """`found` with the layouts that the user gave."""
    given = {
        (linen.as_it_is, nnx.as_it_is): _one_sided(Entry(linen, nnx, "user"), leaves)
        for linen, nnx in pins
        if linen.steps or nnx.steps
    }
    entries = tuple(
        given.get((entry.linen.as_it_is, entry.nnx.as_it_is), entry) for entry in found.entries
    )
    return dataclasses.replace(found, entries=entries)


def find_rolled(
    linen: Graph,
    nnx: Graph,
    linen_leaves: Leaves,
    nnx_leaves: Leaves,
    pinned: Mapping[str, str],
) -> tuple[Entry, ...] | None:
    """The map, layer by layer, of two programs whose scans are not unrolled.

    None where scans of one side are not those of the other: they have to be unrolled then.

    Args and raises: as `find`.
    """
    pins = _pins(pinned, linen_leaves, nnx_leaves)
    if any(view.index or view.part or view.steps for pin in pins for view in pin):
        return None
    found = _match(linen, nnx, linen_leaves, nnx_leaves, pins)
    if found.linen_left or found.nnx_left:
        return None
    entries: list[Entry] = []
    for entry in found.entries:
        pieces = [
            (view, [(position, leaves[view.leaf].shape[axis]) for axis, position in view.index])
            for view, leaves in ((entry.linen, linen_leaves), (entry.nnx, nnx_leaves))
        ]
        if pieces[0][1] != pieces[1][1]:
            return None
        layers = entry.linen.layers(linen_leaves[entry.linen.leaf].shape)
        others = entry.nnx.layers(nnx_leaves[entry.nnx.leaf].shape)
        entries += (Entry(a, b, entry.by) for a, b in zip(layers, others, strict=True))
    return tuple(entries)


def _pins(
    pinned: Mapping[str, str], linen_leaves: Leaves, nnx_leaves: Leaves
) -> list[tuple[View, View]]:
    pins = []
    for texts in pinned.items():
        views = []
        for side, leaves, text in zip(
            ("Linen", "NNX"), (linen_leaves, nnx_leaves), texts, strict=True
        ):
            try:
                view = View.parse(text)
            except ValueError as error:
                raise InputError(f"weight_map: {error}") from error
            if view.leaf not in leaves:
                near = difflib.get_close_matches(view.leaf, leaves, 1, 0.0) or ["none"]
                raise InputError(
                    f"weight_map: {side} has no leaf {view.leaf}; the nearest: {near[0]}"
                )
            shape = leaves[view.leaf].shape
            inside = [axis < len(shape) and i < shape[axis] for axis, i in view.index]
            inside += [
                axis < len(shape) and start < stop <= shape[axis] for axis, start, stop in view.part
            ]
            inside += [view.fits(shape)]
            if not all(inside):
                raise InputError(f"weight_map: {text} is not in a leaf of shape {tuple(shape)}")
            views.append(view)
        shapes = [
            view.shape_in(leaves[view.leaf].shape)
            for view, leaves in zip(views, (linen_leaves, nnx_leaves), strict=True)
        ]
        if sorted(shapes[0]) != sorted(shapes[1]):
            raise InputError(
                f"weight_map: {texts[0]} has shape {shapes[0]}, {texts[1]} has shape {shapes[1]}"
            )
        pins.append((views[0], views[1]))
    return pins


def _match(
    linen: Graph,
    nnx: Graph,
    linen_leaves: Leaves,
    nnx_leaves: Leaves,
    pins: Sequence[tuple[View, View]],
) -> Found:
    unused = [
        [View(path) for path in leaves if path not in {v.leaf for v in graph.views.values()}]
        for graph, leaves in ((linen, linen_leaves), (nnx, nnx_leaves))
    ]
    matcher = Matcher(linen, nnx)
    for pair in pins:
        matcher.pin(*pair, "user")
    matcher.run()
    if any(matcher.left) or any(unused):
        pieces = [[*linen.views.values(), *unused[0]], [*nnx.views.values(), *unused[1]]]
        leaves = (linen_leaves, nnx_leaves)
        pairs = regular_pairs(matcher.entries, pieces, leaves)
        taken = {view for pair in pairs for view in pair}
        siblings = sibling_pairs(matcher.entries, leaves)
        pairs += [pair for pair in siblings if not taken.intersection(pair)]
        known = {entry.linen: entry.nnx for entry in matcher.entries}
        if any(known.get(a) != b for a, b in pairs):
            matcher = Matcher(linen, nnx)
            for pair in pins:
                matcher.pin(*pair, "user")
            for pair in pairs:
                matcher.pin(*pair, "dataflow and names")
            matcher.run()
    entries = list(matcher.entries)
    mapped = {View(view.leaf) for entry in entries for view in (entry.linen, entry.nnx)}
    left = [
        [matcher.view(side, node) for node in matcher.left[side]]
        + [view for view in unused[side] if view not in mapped]
        for side in (0, 1)
    ]
    # What no program uses can only be placed by name.
    for a in list(left[0]):
        same = [
            b
            for b in left[1]
            if not (a.index or b.index or a.part or b.part)
            and _spec(linen_leaves[a.leaf]) == _spec(nnx_leaves[b.leaf])
            and a.leaf.split("/")[0] == b.leaf.split("/")[0]
        ]
        if same:
            best = max(same, key=lambda b: similarity(a.leaf, b.leaf))
            entries.append(Entry(a, best, "names"))
            left[0].remove(a)
            left[1].remove(best)
    for side, specs in enumerate((linen_leaves, nnx_leaves)):
        views = [entry.nnx if side else entry.linen for entry in entries]
        # What is also taken as a whole, to sum its squares say, is there layer by layer.
        whole = {view.leaf for view in left[side] if view == View(view.leaf)}
        covered = {path for path in whole if _covers(views, path, specs[path].shape)}
        left[side] = [view for view in left[side] if view.leaf not in covered]
    return Found(tuple(entries), tuple(left[0]), tuple(left[1]), linen, nnx)


def _covers(views: Sequence[View], path: str, shape: Sequence[int]) -> bool:
    """Whether the pieces of a leaf in `views` are all of it."""
    sizes = [math.prod(view.shape_in(shape)) for view in views if view.leaf == path]
    return sum(sizes) == math.prod(shape)


def _left(found: Found) -> set[tuple[str, str]]:
    return {("linen", view.leaf) for view in found.linen_left} | {
        ("nnx", view.leaf) for view in found.nnx_left
    }


def _fits(found: Found, linen_leaves: Leaves, nnx_leaves: Leaves) -> bool:
    """Whether the pieces of each leaf that is mapped make it up, and no two overlap."""
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
            fits = sum(math.prod(view.shape_in(shape)) for view in views) == math.prod(shape)
            if not fits or len(set(views)) != len(views):
                return False
    return True


def _joined(
    entries: Sequence[Entry], linen_leaves: Leaves, nnx_leaves: Leaves
) -> tuple[Entry, ...]:
    """The entries, the parts of a leaf put together that are parts of one leaf on both sides."""
    groups: dict[tuple[View, View], list[Entry]] = collections.defaultdict(list)
    for entry in entries:
        key = (View(entry.linen.leaf, entry.linen.index), View(entry.nnx.leaf, entry.nnx.index))
        groups[key].append(entry)
    # A piece of one leaf alone, cut in two, is in two groups with others.
    shared = collections.Counter(view for key in groups for view in key)
    joined: list[Entry] = []
    for (linen, nnx), group in groups.items():
        alone = shared[linen] == shared[nnx] == 1
        by = sorted({entry.by for entry in group})
        if alone and _spec(linen_leaves[linen.leaf]) == _spec(nnx_leaves[nnx.leaf]):
            joined.append(Entry(linen, nnx, ", ".join(by)))
        else:
            joined += group
    return tuple(joined)


def _spec(leaf: Any) -> tuple[tuple[int, ...], str]:
    return tuple(leaf.shape), str(leaf.dtype)
