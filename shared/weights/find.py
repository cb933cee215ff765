"""Finds which weight is which: whole leaves, layers or members of a stack, parts of a fused one."""

import collections
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.program.drawn_leaves import is_draw
from shared.program.flatten import flatten
from shared.program.graph import Graph
from shared.program.unfuse import unfuse
from shared.program.unstack import unstack
from shared.program.view import View
from shared.weights.entry import Entry
from shared.weights.match import Matcher
from shared.weights.names import similarity
from shared.weights.pieces import (
    Found,
    Leaves,
    covers,
    fits,
    joined,
    left_over,
    one_sided,
    spec,
    without,
)
from shared.weights.pins import Pins, as_pinned, check_pinned, in_ranges, read_pins
from shared.weights.regular import regular_pairs, sibling_pairs
from shared.weights.storage import paired_across_kinds, paired_but_for_axes


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
    leaves = (linen_leaves, nnx_leaves)
    pins = read_pins(pinned, *leaves)
    best = _find(linen, nnx, leaves, pins)
    as_ranges = in_ranges(pins, leaves)
    if as_ranges != pins and left_over(best):
        # What the user takes out of a stack, the programs may cut.
        other = _find(linen, nnx, leaves, as_ranges)
        best = min(best, other, key=lambda found: len(left_over(found)))
    check_pinned(best.entries, leaves)
    return paired_but_for_axes(paired_across_kinds(best), leaves)


def find_again(
    linen: Graph, nnx: Graph, linen_leaves: Leaves, nnx_leaves: Leaves, entries: Sequence[Entry]
) -> Found:
    """The pieces of two other programs of the same models, of which the weights are mapped.

    Args:
      linen, nnx, linen_leaves, nnx_leaves: as in `find`.
      entries: the map of the weights.
    """
    known = [(entry.linen, entry.nnx) for entry in entries]
    found = _find(linen, nnx, (linen_leaves, nnx_leaves), known)
    draws = tuple(entry for entry in found.entries if entry.is_draw)
    left = [
        tuple(view for view in views if is_draw(view.leaf))
        for views in (found.linen_left, found.nnx_left)
    ]
    return Found((*entries, *draws), left[0], left[1], found.linen, found.nnx)


def _find(linen: Graph, nnx: Graph, leaves: tuple[Leaves, Leaves], pins: Pins) -> Found:
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
        entries = tuple({one_sided(entry, leaves): None for entry in found.entries})
        if way.cuts:
            entries = joined(entries, *leaves)
        # The programs are those with the weights as they are.
        found = without(Found(entries, found.linen_left, found.nnx_left, *graphs))
        if fits(found, *leaves) and len(left_over(found)) < len(left_over(best)):
            best = found
    return as_pinned(best, pins, leaves)


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
    specs_left = [
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
                if not view.part and specs_left[1 - side][member, dtype] >= size:
                    axes[side].setdefault(view.leaf, view.axis(axis))
                    break
    return axes


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
    pins = read_pins(pinned, linen_leaves, nnx_leaves)
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
    check_pinned(entries, (linen_leaves, nnx_leaves))
    return tuple(entries)


def _match(
    linen: Graph,
    nnx: Graph,
    linen_leaves: Leaves,
    nnx_leaves: Leaves,
    pins: Pins,
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
        of_weights = [entry for entry in matcher.entries if not entry.is_draw]
        pairs = regular_pairs(of_weights, pieces, leaves)
        taken = {view for pair in pairs for view in pair}
        siblings = sibling_pairs(of_weights, leaves)
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
            and spec(linen_leaves[a.leaf]) == spec(nnx_leaves[b.leaf])
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
        covered = {path for path in whole if covers(views, path, specs[path].shape)}
        left[side] = [view for view in left[side] if view.leaf not in covered]
    return Found(tuple(entries), tuple(left[0]), tuple(left[1]), linen, nnx)
