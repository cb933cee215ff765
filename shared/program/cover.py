"""Whether views of an array are all of it, and whether a number is in two of them."""

import math
from collections.abc import Sequence

import numpy as np

from shared.program.layout import Shape
from shared.program.view import View

# Of the grid that the edges of the views cut an array into: a stack of 1,000 layers has 1,000.
_MOST_CELLS = 2**20
# (start, stop) along each axis.
_Region = list[tuple[int, int]]


def shape_of(view: View, shape: Sequence[int]) -> Shape:
    """The shape of a view of an array.

    Raises:
      ValueError: it is none of an array of this shape.
    """
    places = [(axis, at, at + 1) for axis, at in view.index] + list(view.part)
    is_inside = all(
        axis < len(shape) and 0 <= start <= stop <= shape[axis] for axis, start, stop in places
    )
    if not is_inside or not view.fits(shape):
        raise ValueError(f"{str(view)[:200]} is no part of an array {tuple(shape)}")
    return view.shape_in(shape)


def overlaps(views: Sequence[View], shape: Sequence[int]) -> bool:
    """Whether a number is in two views of an array, which are to be all of it.

    Args:
      views: each a part of it, see `shape_of`.
      shape: of the array.

    Raises:
      ValueError: they are not all of it.
    """
    if not views:
        raise ValueError("no part of it is named")
    regions = [_region(view, shape) for view in views]
    if regions == [[(0, length) for length in shape]]:
        return False
    edges = []
    for axis, length in enumerate(shape):
        found = {0, length} | {edge for region in regions for edge in region[axis]}
        edges.append({edge: i for i, edge in enumerate(sorted(found))})
    # What is counted is a cell between edges.
    cells = [len(each) - 1 for each in edges]
    if math.prod(cells) > _MOST_CELLS:
        raise ValueError("its parts are too many")
    is_taken, is_twice = np.zeros(cells, bool), False
    for region in regions:
        cell = tuple(
            slice(each[start], each[stop])
            for each, (start, stop) in zip(edges, region, strict=True)
        )
        is_twice |= bool(is_taken[cell].any())
        is_taken[cell] = True
    if not is_taken.all():
        raise ValueError("its parts leave some of it out")
    return is_twice


def _region(view: View, shape: Sequence[int]) -> _Region:
    region = [(0, length) for length in shape]
    for axis, at in view.index:
        region[axis] = (at, at + 1)
    for axis, start, stop in view.part:
        region[axis] = (start, stop)
    return region
