"""What becomes of a leaf of Linen in NNX, in words."""

from collections.abc import Sequence

from shared.weights.entry import Entry


def transform(entries: Sequence[Entry]) -> str:
    """What becomes of the leaf of all `entries`: "identity", "move axis 0 to 1"."""
    words = [_moved(entries)]
    parts = {(entry.linen.part, entry.nnx.part) for entry in entries}
    if len(parts) > 1:
        return f"{len(parts)} parts in another order"
    for verb, view in (("take", entries[0].linen), ("put in", entries[0].nnx)):
        words += [f"{verb} {start}:{stop} of axis {axis}" for axis, start, stop in view.part]
    words += [f"{op} {_join(numbers)}" for op, numbers in entries[0].linen.steps]
    words += [f"put in .{op} {_join(numbers)}" for op, numbers in entries[0].nnx.steps]
    more = len(words) > 1
    return ", ".join(word for word in words if not more or word != "identity")


def _moved(entries: Sequence[Entry]) -> str:
    """What becomes of the axes of layers."""
    linen, nnx = entries[0].linen.index, entries[0].nnx.index
    if not linen and not nnx:
        return "identity"
    axes = tuple(axis for axis, _ in linen), tuple(axis for axis, _ in nnx)
    positions = [
        (tuple(i for _, i in entry.linen.index), tuple(i for _, i in entry.nnx.index))
        for entry in entries
    ]
    if not nnx:
        return f"unstack axis {_join(axes[0])} at {_join(positions[0][0])}"
    if not linen:
        return f"stack on axis {_join(axes[1])} at {_join(positions[0][1])}"
    if any(a != b for a, b in positions):
        return (
            f"axis {_join(axes[0])} to {_join(axes[1])}, {len(positions)} slices in another order"
        )
    if axes[0] == axes[1]:
        return "identity"
    return f"move axis {_join(axes[0])} to {_join(axes[1])}"


def _join(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
