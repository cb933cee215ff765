"""How the elements of a value are repeated in another that has no others, whatever its shape."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from shared.program.layout import Shape


class Run(NamedTuple):
    """Part of an order of elements: `size` in a row, or what is behind it `size` times.

    Attributes:
      is_repeated: which of the two.
    """

    is_repeated: bool
    size: int


# Row by row, outermost first: a reshape changes nothing of it.
Repetition = tuple[Run, ...]


def once(size: int) -> Repetition:
    """All `size` elements, in their order."""
    return _joined([Run(False, size)])


def is_repeated(repetition: Repetition) -> bool:
    """Whether an element is there more than once."""
    return any(run.is_repeated for run in repetition)


def broadcast(
    repetition: Repetition, before: Shape, after: Shape, kept: Sequence[int]
) -> Repetition | None:
    """That of a value after it is broadcast; None where its axes cut what is repeated.

    Args:
      repetition: of the value.
      before: its shape; after: that of the result.
      kept: the axis of the result that each of its axes is.
    """
    runs = _by_axis(repetition, before)
    if runs is None:
        return None
    made: list[Run] = []
    for axis, size in enumerate(after):
        own = kept.index(axis) if axis in kept else None
        if own is not None and before[own] == size:
            made += runs[own]
        else:
            made.append(Run(True, size))
    return _joined(made)


def _by_axis(repetition: Repetition, shape: Shape) -> list[list[Run]] | None:
    """The runs that make up each axis of a value of `shape`."""
    todo = list(reversed(repetition))
    axes: list[list[Run]] = []
    for size in shape:
        axis: list[Run] = []
        while math.prod(run.size for run in axis) < size:
            run = todo.pop()
            wanted = size // math.prod(each.size for each in axis)
            if run.size > wanted:
                if run.size % wanted:
                    return None
                todo.append(Run(run.is_repeated, run.size // wanted))
                run = Run(run.is_repeated, wanted)
            axis.append(run)
        if math.prod(run.size for run in axis) != size:
            return None
        axes.append(axis)
    return axes


def _joined(runs: Sequence[Run]) -> Repetition:
    """The runs without those of one, neighbours of one kind together."""
    made: list[Run] = []
    for run in runs:
        if run.size == 1:
            continue
        if made and made[-1].is_repeated == run.is_repeated:
            run = Run(run.is_repeated, made.pop().size * run.size)
        made.append(run)
    return tuple(made)
