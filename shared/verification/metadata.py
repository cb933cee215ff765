"""Whether the axes of the weights have the same names on both sides, moved as the weights are."""

from collections.abc import Sequence

from shared.models.pair import PurePair
from shared.program.view import View
from shared.report.result import NAMED, Check, Divergence, Spot
from shared.verification.ported import Ported
from shared.verification.start import Start
from shared.weights.weight_map import Entry

NAME = "metadata"


def has_metadata(pure: PurePair) -> bool:
    """Whether there is anything to compare."""
    return bool(pure.linen.axis_names or pure.nnx.axis_names)


def check_metadata(ported: Ported) -> tuple[Check, Divergence | None]:
    """Whether what partitions the weights is the same, and where it is not.

    Names that only the port has are no difference: they are said.

    """
    pure = ported.pair
    unlike: dict[tuple[str, str], tuple[Entry, str]] = {}
    added: set[str] = set()
    for entry in ported.weights.entries:
        linen, nnx = entry.linen.leaf, entry.nnx.leaf
        one, other = pure.linen.axis_names.get(linen), pure.nnx.axis_names.get(nnx)
        if one is None and other is not None:
            added.add(nnx)
        elif _unlike(entry, one, other, pure):
            said = f"{_said(one)} in Linen, {_said(other)} in NNX"
            unlike.setdefault((linen, nnx), (entry, said))
    if not unlike:
        alone = f"only NNX names axes of {', '.join(sorted(added)[:NAMED])}" if added else ""
        return Check(NAME, "equal", note=alone), None
    (entry, first), *_ = unlike.values()
    named = [f"{each.nnx.leaf}: {said}" for each, said in unlike.values()]
    more = [f"{len(named) - NAMED} more"] if len(named) > NAMED else []
    note = "; ".join(named[:NAMED] + more)
    place = Divergence(
        f"axis names of {entry.nnx.leaf}: {first}",
        Start(pure.linen, pure).spot(entry.linen),
        _named_at(pure, entry.nnx) or Start(pure.nnx, pure).spot(entry.nnx),
    )
    return Check(NAME, "different", worst_leaf=entry.nnx.leaf, note=note), place


def _named_at(pure: PurePair, view: View) -> Spot | None:
    place = pure.nnx.named_at.get(view.leaf)
    return Spot(place.file, place.line, place.source, "metadata", (), "") if place else None


def _said(names: tuple | None) -> str:
    return "none" if names is None else str(names)


def _unlike(entry: Entry, linen: tuple | None, nnx: tuple | None, pure: PurePair) -> bool:
    """Whether the names of a leaf of Linen are not those of its counterpart."""
    if linen is None and nnx is None:
        return False
    shapes = pure.linen.leaves[entry.linen.leaf].shape, pure.nnx.leaves[entry.nnx.leaf].shape
    one, its_stack = _names(entry.linen, linen or (), shapes[0])
    other, other_stack = _names(entry.nnx, nnx or (), shapes[1])
    if len(its_stack) == len(other_stack) and its_stack != other_stack:
        return True
    for step in entry.linen.steps:
        if step.op == "reshape":
            # Axes are put together or apart: of what is named, nothing may be lost.
            return _named(one) != _named(other)
        one = [one[axis] for axis in step.numbers]
    return one != other


def _names(view: View, names: tuple, shape: tuple[int, ...]) -> tuple[list, list]:
    """The names of the axes of what `view` takes, and those of the axes of its stacks."""
    every = [*names, *[None] * (len(shape) - len(names))]
    taken = [axis for axis, _ in view.index]
    kept = [name for axis, name in enumerate(every) if axis not in taken]
    return kept, [every[axis] for axis in taken]


def _named(names: Sequence) -> list[str]:
    return sorted(str(name) for name in names if name is not None)
