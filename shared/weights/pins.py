"""What the user has mapped: paths, with a place in the weight and a layout."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

from shared.errors import InputError
from shared.program.view import View
from shared.weights.pieces import Found, Leaves, one_sided
from shared.weights.weight_map import Entry

Pins = Sequence[tuple[View, View]]


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
        if sorted(shapes[0]) != sorted(shapes[1]):
            raise InputError(
                f"weight_map: {texts[0]} has shape {shapes[0]}, {texts[1]} has shape {shapes[1]}"
            )
        pins.append((views[0], views[1]))
    return pins


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
