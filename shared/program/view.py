"""View: what of a weight is meant, all of it or a part."""

import dataclasses
import itertools
import re
from collections.abc import Sequence

_TEXT = re.compile(r"(?P<leaf>[^\[\]]+)(\[(?P<place>[^\[\]]*)\])?")
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
    """

    leaf: str
    index: tuple[tuple[int, int], ...] = ()
    part: tuple[tuple[int, int, int], ...] = ()

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
        """As numpy writes it: `params/qkv/kernel[:, 0:4]`."""
        axes = [axis for axis, *_ in (*self.index, *self.part)]
        if not axes:
            return self.leaf
        places = [
            str(place)
            if isinstance(place, int)
            else ":"
            if place == slice(None)
            else f"{place.start}:{place.stop}"
            for place in self.place(max(axes) + 1)
        ]
        return f"{self.leaf}[{', '.join(places)}]"

    @classmethod
    def parse(cls, text: str) -> "View":
        """The view that prints as `text`.

        Raises:
          ValueError: none does.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text}: expected a path such as params/qkv/kernel[:, 0:4]")
        index, part = [], []
        for axis, place in enumerate((match["place"] or ":").split(",")):
            place = place.strip()
            if place.isdigit():
                index.append((axis, int(place)))
            elif found := _RANGE.fullmatch(place):
                part.append((axis, int(found[1]), int(found[2])))
            elif place != ":":
                raise ValueError(f"{text}: expected {place} to be a number, a range or a colon")
        return cls(match["leaf"], tuple(index), tuple(part))

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
        return tuple(
            ranges.get(axis, size) for axis, size in enumerate(shape) if axis not in self.axes
        )

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
