"""How the numbers of an array are laid out in another: reshapes and transpositions."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Step(NamedTuple):
    """`array.reshape(*numbers)` or `array.transpose(*numbers)`.

    Attributes:
      op: "reshape" or "transpose".
      numbers: the shape, or the order of the axes.
    """

    op: str
    numbers: Shape

    def __str__(self) -> str:
        return f".{self.op}({', '.join(map(str, self.numbers))})"


Steps = tuple[Step, ...]


def laid_out(array: Any, steps: Steps) -> Any:
    """`array` after all `steps`."""
    for op, numbers in steps:
        array = array.reshape(numbers) if op == "reshape" else array.transpose(numbers)
    return array


def shape_after(shape: Sequence[int], steps: Steps) -> Shape:
    """The shape of an array of `shape` after all `steps`."""
    for op, numbers in steps:
        shape = numbers if op == "reshape" else [shape[axis] for axis in numbers]
    return tuple(shape)


def inverse(steps: Steps, shape: Sequence[int]) -> Steps:
    """The steps that undo `steps` on an array of `shape`."""
    undone: list[Step] = []
    for step in steps:
        if step.op == "reshape":
            undone.append(Step("reshape", tuple(shape)))
        else:
            order = sorted(range(len(step.numbers)), key=step.numbers.__getitem__)
            undone.append(Step("transpose", tuple(order)))
        shape = shape_after(shape, (step,))
    return tuple(reversed(undone))


def simplest(steps: Steps, shape: Sequence[int]) -> Steps:
    """One reshape, one transposition and one more reshape, or less, that do what `steps` do.

    Those that have nothing in common are left as they are, as (4, 6) to (6, 4).

    Args:
      steps: any number of them.
      shape: of the array.
    """
    # Each axis as the factors that it is the product of, by their number.
    sizes = dict(enumerate(shape))
    axes = [[number] for number in sizes]
    for op, numbers in steps:
        if op == "transpose":
            axes = [axes[axis] for axis in numbers]
        elif (found := _split([f for axis in axes for f in axis], numbers, sizes)) is None:
            return steps
        else:
            axes = found
    made = [factor for axis in axes for factor in axis if sizes[factor] != 1]
    # A factor that was split has its parts behind it, in order.
    first = sorted((factor for factor in made), key=_place)
    runs: list[list[Any]] = []
    position = {factor: i for i, factor in enumerate(first)}
    for factor in made:
        if runs and position[factor] == position[runs[-1][-1]] + 1:
            runs[-1].append(factor)
        else:
            runs.append([factor])
    target = shape_after(shape, steps)
    if len(runs) <= 1:
        return () if target == tuple(shape) else (Step("reshape", target),)
    in_order = sorted(runs, key=lambda run: position[run[0]])
    apart = tuple(math.prod(sizes[factor] for factor in run) for run in in_order)
    order = tuple(in_order.index(run) for run in runs)
    found_steps = (Step("reshape", apart), Step("transpose", order), Step("reshape", target))
    kept: list[Step] = []
    now = tuple(shape)
    for step in found_steps:
        if step != Step("reshape", now):
            kept.append(step)
        now = shape_after(now, (step,))
    return tuple(kept)


def _place(factor: Any) -> tuple:
    return factor if isinstance(factor, tuple) else (factor,)


def _split(factors: list[Any], shape: Shape, sizes: dict[Any, int]) -> list[list[Any]] | None:
    """`factors` in groups whose products are `shape`, those in two groups split in two."""
    todo = list(reversed(factors))
    axes: list[list[Any]] = []
    for size in shape:
        axis: list[Any] = []
        while size > 1:
            if not todo:
                return None
            factor = todo.pop()
            if size % sizes[factor] == 0:
                size //= sizes[factor]
                axis.append(factor)
            elif sizes[factor] % size == 0:
                one, other = (*_place(factor), 0), (*_place(factor), 1)
                sizes[one], sizes[other] = size, sizes[factor] // size
                axis.append(one)
                todo.append(other)
                size = 1
            else:
                return None
        axes.append(axis)
    return axes
