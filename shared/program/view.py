"""View: what of a weight is meant, all of it or a part."""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

from shared.program.layout import Step, Steps, inverse, laid_out, shape_after, simplest

_STEP = r"\.(reshape|transpose)\(([\d, ]+)\)"
_TEXT = re.compile(rf"(?P<leaf>[^\[\]()]+?)(\[(?P<place>[^\[\]]*)\])?(?P<steps>({_STEP})*)")
_WRITTEN = {"[": "~2", "]": "~3", "(": "~4", ")": "~5"}
_RANGE = re.compile(r"(\d+):(\d+)")


def any_layer(depth: int) -> int:
    """The position in a scan that is not unrolled, `depth` other scans around it."""
    return -1 - depth


@dataclasses.dataclass(frozen=True)
class View:
    """What of a leaf is meant, all of it where there is no `index` and no `part`.

    Attributes:
      leaf: its path.
      index: (axis of the leaf, position) of each axis that a scan took away, in order. The
        position in a scan that is not unrolled is `any_layer` of how deep the scan is.
      part: (axis of the leaf, start, stop) of each axis of which only a part is meant.
      steps: how what is meant is laid out anew, after that.
    """

    leaf: str
    index: tuple[tuple[int, int], ...] = ()
    part: tuple[tuple[int, int, int], ...] = ()
    steps: Steps = ()

    @property
    def as_it_is(self) -> "View":
        """The same numbers, not laid out anew."""
        return dataclasses.replace(self, steps=())

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that scans took away, in order."""
        return tuple(axis for axis, _ in self.index)

    @property
    def is_any_layer(self) -> bool:
        """Whether this is what a scan that is not unrolled takes."""
        return any(position < 0 for _, position in self.index)

    def layers(self, shape: Sequence[int]) -> list["View"]:
        """The views that this one stands for, one for each layer."""
        ranges = [
            range(shape[axis]) if position < 0 else (position,) for axis, position in self.index
        ]
        return [
            dataclasses.replace(self, index=tuple(zip(self.axes, positions, strict=True)))
            for positions in itertools.product(*ranges)
        ]

    def __str__(self) -> str:
        """As numpy writes it: `params/qkv/kernel[:, 0:4].transpose(1, 0)`.

        A bracket in a name is written as `/` and `~` are in a path: `[` as `~2`.
        """
        leaf = "".join(_WRITTEN.get(character, character) for character in self.leaf)
        axes = [axis for axis, *_ in (*self.index, *self.part)]
        steps = "".join(map(str, self.steps))
        if not axes:
            return leaf + steps
        places = [
            str(place)
            if isinstance(place, int)
            else ":"
            if place == slice(None)
            else f"{place.start}:{place.stop}"
            for place in self.place(max(axes) + 1)
        ]
        return f"{leaf}[{', '.join(places)}]{steps}"

    @classmethod
    def parse(cls, text: str) -> "View":
        """The view that prints as `text`.

        Raises:
          ValueError: none does.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text}: expected a path such as params/qkv/kernel[:, 0:4] or "
                "params/kernel.transpose(1, 0)"
            )
        index, part = [], []
        for axis, place in enumerate((match["place"] or ":").split(",")):
            place = place.strip()
            if place.isdigit():
                index.append((axis, int(place)))
            elif found := _RANGE.fullmatch(place):
                part.append((axis, int(found[1]), int(found[2])))
            elif place != ":":
                raise ValueError(f"{text}: expected {place} to be a number, a range or a colon")
        steps = (
            Step(op, tuple(int(number) for number in numbers.split(",") if number.strip()))
            for op, numbers in re.findall(_STEP, match["steps"])
        )
        leaf = match["leaf"]
        for bracket, code in _WRITTEN.items():
            leaf = leaf.replace(code, bracket)
        return cls(leaf, tuple(index), tuple(part), tuple(steps))

    def of(self, array: Any) -> Any:
        """What is meant of the leaf `array`."""
        return laid_out(array[self.place(array.ndim)], self.steps)

    def put(self, array: Any, value: Any) -> None:
        """Writes `value` where it is meant in the leaf `array`."""
        place = self.place(array.ndim)
        array[place] = laid_out(value, inverse(self.steps, self.as_it_is.shape_in(array.shape)))

    def then(self, steps: Steps, shape: Sequence[int]) -> "View":
        """The same numbers laid out anew, of a leaf of `shape`."""
        own = self.as_it_is.shape_in(shape)
        return dataclasses.replace(self, steps=simplest((*self.steps, *steps), own))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a leaf of `shape` can be laid out as this says."""
        own = self.as_it_is.shape_in(shape)
        for step in self.steps:
            if step.op == "transpose" and sorted(step.numbers) != [*range(len(own))]:
                return False
            if step.op == "reshape" and math.prod(step.numbers) != math.prod(own):
                return False
            own = shape_after(own, (step,))
        return True

    def place(self, ndim: int) -> tuple[int | slice, ...]:
        """The numpy index of it in the leaf, which has `ndim` axes."""
        place: list[int | slice] = [slice(None)] * ndim
        for axis, position in self.index:
            place[axis] = position
        for axis, start, stop in self.part:
            place[axis] = slice(start, stop)
        return tuple(place)

    def shape_in(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Its shape in a leaf of `shape`."""
        ranges = {axis: stop - start for axis, start, stop in self.part}
        own = (ranges.get(axis, size) for axis, size in enumerate(shape) if axis not in self.axes)
        return shape_after(tuple(own), self.steps)

    def axis(self, axis: int) -> int:
        """Which axis of the leaf is axis `axis` of the view."""
        for taken in sorted(taken for taken, _ in self.index):
            axis += taken <= axis
        return axis

    def take(self, axis: int, start: int, stop: int) -> "View":
        """The part from `start` to `stop` along axis `axis` of the view."""
        where, offset = self.axis(axis), 0
        kept = []
        for taken, before, behind in self.part:
            if taken == where:
                offset = before
            else:
                kept.append((taken, before, behind))
        part = sorted([*kept, (where, offset + start, offset + stop)])
        return View(self.leaf, self.index, tuple(part))
