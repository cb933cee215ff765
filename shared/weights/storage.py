"""Weights that are the same but for what they are kept as: dtype, collection, how axes are cut."""

import collections
import dataclasses
import itertools
import math
import operator
from collections.abc import Sequence

from shared.program.layout import Step
from shared.program.view import View
from shared.weights.entry import Entry
from shared.weights.match import Matcher
from shared.weights.names import SAY_NOTHING, shared_words, similarity, words
from shared.weights.pieces import Found, Leaves

# Of how many weights it is said by name.
_SAID = 3
_CLASSES = {"batch_stats": "BatchStat", "cache": "Cache", "params": "Param"}


def paired_across_kinds(found: Found) -> Found:
    """`found` with the weights paired that have no counterpart of their own dtype or collection."""
    for any_collection in (False, True):
        if found.linen_left and found.nnx_left:
            found = _paired(found, any_collection)
    return found


def _paired(found: Found, any_collection: bool) -> Found:
    matcher = Matcher(found.linen, found.nnx, any_dtype=True, any_collection=any_collection)
    for entry in found.entries:
        matcher.pin(entry.linen.as_it_is, entry.nnx.as_it_is, entry.by)
    matcher.run()
    left = set(found.linen_left), set(found.nnx_left)
    pairs = [entry for entry in matcher.entries if entry.linen in left[0] and entry.nnx in left[1]]
    return dataclasses.replace(
        found,
        entries=(*found.entries, *pairs),
        linen_left=tuple(v for v in found.linen_left if v not in {e.linen for e in pairs}),
        nnx_left=tuple(v for v in found.nnx_left if v not in {e.nnx for e in pairs}),
    )


def paired_but_for_axes(found: Found, leaves: tuple[Leaves, Leaves]) -> Found:
    """`found` with the weights paired that differ in their axes alone, not in the order of numbers.

    In axes of length 1, as a token (1, 1, 6) has: how it is repeated and joined may hide that it is
    the same. Or in neighbours that are one axis elsewhere: the kernel of a convolution of patches,
    (4, 4, 3, 8), is that of a Linear. Of several by their names.
    """

    def kind(side: int, view: View) -> tuple:
        leaf = leaves[side][view.leaf]
        return math.prod(leaf.shape), str(leaf.dtype), _signature(view.leaf)

    def may_be(a: View, b: View) -> bool:
        shapes = leaves[0][a.leaf].shape, leaves[1][b.leaf].shape
        if kind(0, a) != kind(1, b) or shapes[0] == shapes[1]:
            return False
        return differ_in_ones(a, b) or (
            a.leaf.split("/")[-1] == b.leaf.split("/")[-1] and _are_merged(*shapes)
        )

    def differ_in_ones(a: View, b: View) -> bool:
        return _without_ones(leaves[0][a.leaf].shape) == _without_ones(leaves[1][b.leaf].shape)

    left = [
        [view for view in views if view == View(view.leaf)]
        for views in (found.linen_left, found.nnx_left)
    ]
    candidates = sorted(
        (-similarity(_name(a), _name(b)), abs(i - j), i, j)
        for i, a in enumerate(left[0])
        for j, b in enumerate(left[1])
        if may_be(a, b)
    )
    choices = [collections.Counter(each[side] for each in candidates) for side in (2, 3)]
    known: tuple[dict[View, View], dict[View, View]] = ({}, {})
    for _, _, i, j in candidates:
        a, b = left[0][i], left[1][j]
        is_alone = choices[0][i] == choices[1][j] == 1
        is_free = a not in known[0] and b not in known[1]
        known_by_name = shared_words(_name(a), _name(b)) and (
            differ_in_ones(a, b) or (words(a.leaf) & words(b.leaf)) - SAY_NOTHING
        )
        if is_free and (is_alone or known_by_name):
            known[0][a], known[1][b] = b, a
    pairs = (
        Entry(View(a.leaf, steps=(Step("reshape", tuple(leaves[1][b.leaf].shape)),)), b, "names")
        for a, b in known[0].items()
    )
    return dataclasses.replace(
        found,
        entries=(*found.entries, *pairs),
        linen_left=tuple(view for view in found.linen_left if view not in known[0]),
        nnx_left=tuple(view for view in found.nnx_left if view not in known[1]),
    )


def _are_merged(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether each axis of the shape that has fewer is one or more neighbours of the other's."""
    ends = [{*itertools.accumulate(_without_ones(shape), operator.mul)} for shape in (one, other)]
    return ends[0] <= ends[1] or ends[1] <= ends[0]


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _name(view: View) -> str:
    """The path, without the collection."""
    return view.leaf.split("/", 1)[-1]


def other_kinds(entries: Sequence[Entry], leaves: tuple[Leaves, Leaves]) -> list[str]:
    """What is said of the weights that are kept as something else, each in one sentence."""
    others = in_other_collections(entries)
    more = [f"so are {len(others) - _SAID} more"] if len(others) > _SAID else []
    return other_dtypes(entries, leaves) + [_said(entry) for entry in others[:_SAID]] + more


def in_other_collections(entries: Sequence[Entry]) -> list[Entry]:
    """The weights that one side trains, say, and the other does not; one entry for each leaf.

    What the user has mapped is meant so.
    """
    found: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        if _signature(entry.linen.leaf) != _signature(entry.nnx.leaf) and "user" not in entry.by:
            found.setdefault((entry.linen.leaf, entry.nnx.leaf), entry)
    return list(found.values())


def _signature(path: str) -> str:
    collection = path.split("/")[0]
    return collection if collection in _CLASSES else "other"


def _said(entry: Entry) -> str:
    collection, path = entry.nnx.leaf.split("/", 1)
    is_array = collection == "array"
    what = "a plain array" if is_array else f"an nnx.{_CLASSES.get(collection, collection)}"
    said = f"{path} is {what} in NNX, Linen has {entry.linen.leaf}"
    if entry.linen.leaf.startswith("params/"):
        return f"{said}: nothing trains it"
    return f"{said}: it is trained in NNX" if collection == "params" else said


def other_dtypes(entries: Sequence[Entry], leaves: tuple[Leaves, Leaves]) -> list[str]:
    """What is said of the weights that differ in dtype: one sentence for each two dtypes."""
    paths: dict[tuple[str, str], dict[str, None]] = collections.defaultdict(dict)
    for entry in entries:
        one, other = leaves[0][entry.linen.leaf].dtype, leaves[1][entry.nnx.leaf].dtype
        if one != other:
            paths[str(one), str(other)][entry.nnx.leaf] = None
    notes = []
    for (one, other), named in paths.items():
        what = f"{len(named)} weights are" if len(named) > 1 else f"{next(iter(named))} is"
        hint = ": param_dtype?" if all(path.startswith("params/") for path in named) else ""
        notes.append(f"{what} {one} in Linen, {other} in NNX{hint}")
    return notes
