"""What the user has mapped: paths, with a place in the weight and a layout."""

import dataclasses
import difflib
import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence

from shared.errors import InputError
from shared.program.layout import Step
from shared.program.view import View
from shared.weights.entry import Entry
from shared.weights.pieces import Found, Leaves, one_sided

Pins = Sequence[tuple[View, View]]
Shape = tuple[int, ...]


def read_pins(
    pinned: Mapping[str, str], linen_leaves: Leaves, nnx_leaves: Leaves
) -> list[tuple[View, View]]:
    """What the texts of a map mean.

    Raises:
      InputError: there is no such leaf, no such place in it, or the two sides have other shapes.
    """
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
        # Whole weights may be stacked on other axes: what of them is one layer, the programs say.
        whole = views[0] == View(views[0].leaf) and views[1] == View(views[1].leaf)
        if shapes[0] != shapes[1] and not (whole and sorted(shapes[0]) == sorted(shapes[1])):
            raise InputError(_does_not_fit(*texts, *shapes))
        pins.append((views[0], views[1]))
    return pins


def _does_not_fit(linen: str, nnx: str, one: Shape, other: Shape) -> str:
    """What is said of a pin of two shapes, with the pin that fits if there is one."""
    steps = "".join(map(str, next(iter(fitting(one, other)), ())))
    said = f"weight_map: {linen} has shape {one}, which does not fit {other}, that of {nnx}"
    return f'{said}; write "{linen}{steps}": "{nnx}"' if steps else said


def fitting(one: Shape, other: Shape) -> Iterator[list[Step]]:
    """The ways in which `one` is laid out as `other`: axes in another order, or put together."""
    a, b = (tuple(size for size in shape if size != 1) for shape in (one, other))
    if sorted(a) == sorted(b):
        for order in itertools.permutations(range(len(a))):
            if tuple(a[axis] for axis in order) == b:
                steps = [Step("reshape", a), Step("transpose", order), Step("reshape", other)]
                changes = (a != one, order != tuple(range(len(a))), b != other)
                yield [step for step, changed in zip(steps, changes, strict=True) if changed]
        return
    ends = [set(itertools.accumulate(shape, operator.mul)) for shape in (a, b)]
    if math.prod(a) == math.prod(b) and (ends[0] <= ends[1] or ends[1] <= ends[0]):
        yield [Step("reshape", other)]


def check_pinned(entries: Sequence[Entry], leaves: tuple[Leaves, Leaves]) -> None:
    """Stops at a pin of weights that the programs take whole, and that have other shapes.

    Raises:
      InputError: there is one.
    """
    for entry in entries:
        one, other = (
            view.shape_in(specs[view.leaf].shape)
            for view, specs in zip((entry.linen, entry.nnx), leaves, strict=True)
        )
        if one != other and "user" in entry.by:
            raise InputError(_does_not_fit(str(entry.linen), str(entry.nnx), one, other))


def in_ranges(pins: Pins, leaves: tuple[Leaves, Leaves]) -> list[tuple[View, View]]:
    """`pins` with `[0:1].reshape(...)` for `[0]`: the same numbers, cut and not taken by a scan."""

    def ranged(view: View, specs: Leaves) -> View:
        if not view.index:
            return view
        shape = view.as_it_is.shape_in(specs[view.leaf].shape)
        part = sorted([*view.part, *((axis, i, i + 1) for axis, i in view.index)])
        return View(view.leaf, (), tuple(part), (Step("reshape", shape), *view.steps))

    return [(ranged(linen, leaves[0]), ranged(nnx, leaves[1])) for linen, nnx in pins]


def as_pinned(found: Found, pins: Pins, leaves: tuple[Leaves, Leaves]) -> Found:
    """`found` with the layouts that the user gave."""
    given = {
        (linen.as_it_is, nnx.as_it_is): one_sided(Entry(linen, nnx, "user"), leaves)
        for linen, nnx in pins
        if linen.steps or nnx.steps
    }
    entries = tuple(
        given.get((entry.linen.as_it_is, entry.nnx.as_it_is), entry) for entry in found.entries
    )
    return dataclasses.replace(found, entries=entries)
