"""Whether the axes of the weights have the same names on both sides, moved as the weights are."""

from collections.abc import Sequence

from shared.models.pure_pair import PurePair
from shared.program.constraints import Constraint, constraints
from shared.program.source import users_place
from shared.program.view import View
from shared.report.result import NAMED, Check, Divergence, Spot
from shared.verification.ported import Ported
from shared.verification.start import Start
from shared.weights.entry import Entry

NAME = "metadata"


def has_metadata(pure: PurePair) -> bool:
    """Whether there is anything to compare."""
    return bool(pure.linen.axis_names or pure.nnx.axis_names or any(_asked_for(pure)))


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
    asked, alone = _constraints_apart(pure)
    if not unlike:
        if asked is not None:
            return Check(NAME, "different", note=asked.reason), asked
        if added:
            alone.append(f"only NNX names axes of {', '.join(sorted(added)[:NAMED])}")
        return Check(NAME, "equal", note="; ".join(alone)), None
    (entry, first), *_ = unlike.values()
    named = [f"{each.nnx.leaf}: {said}" for each, said in unlike.values()]
    more = [f"{len(named) - NAMED} more"] if len(named) > NAMED else []
    note = "; ".join(named[:NAMED] + more)
    starts = Start(pure.linen, pure), Start(pure.nnx, pure)
    own = _own_names_differ(entry, pure)
    place = Divergence(
        f"axis names of {entry.nnx.leaf}: {first}",
        starts[0].spot_of_names(entry.linen),
        starts[1].spot_of_names(entry.nnx) if own else starts[1].spot_of_stack(entry.nnx),
    )
    return Check(NAME, "different", worst_leaf=entry.nnx.leaf, note=note), place


def _asked_for(pure: PurePair) -> list[list[Constraint]]:
    """The shardings that the call of Linen's model asks for, and those of NNX's."""
    return [
        constraints(model.apply.program(dict(model.leaves), pure.inputs)[0])
        for model in (pure.linen, pure.nnx)
    ]


def _constraints_apart(pure: PurePair) -> tuple[Divergence | None, list[str]]:
    """Values of one shape for which both ask, for another sharding; what one side alone asks for.

    A scan asks once for all its layers, a loop for each: how often is no difference.
    """
    linen, nnx = ({(c.shape, c.names): c for c in side} for side in _asked_for(pure))
    said = []
    for name, own, others in (("Linen", linen, nnx), ("NNX", nnx, linen)):
        for (shape, names), asked in own.items():
            if (shape, names) in others:
                continue
            meant = next((c for c in others.values() if c.shape == shape), None)
            if meant is not None and (shape, meant.names) not in own:
                one, other = (asked, meant) if name == "Linen" else (meant, asked)
                reason = f"sharding of {shape}: {one.names} in Linen, {other.names} in NNX"
                return Divergence(reason, _asked_at(one), _asked_at(other)), []
            place = users_place(asked.stack)
            where = f" ({place})" if place else ""
            said.append(f"only {name} asks for the sharding {names} of {shape}{where}")
    return None, said[:NAMED]


def _asked_at(asked: Constraint) -> Spot | None:
    place = users_place(asked.stack)
    shape = str(asked.shape)
    return Spot(place.file, place.line, place.source, shape, (), "") if place else None


def _said(names: tuple | None) -> str:
    return "none" if names is None else str(names)


def _unlike(entry: Entry, linen: tuple | None, nnx: tuple | None, pure: PurePair) -> bool:
    """Whether the names of a leaf of Linen are not those of its counterpart."""
    if linen is None and nnx is None:
        return False
    (one, its_stack), (other, other_stack) = _names_of_both(entry, pure)
    if len(its_stack) == len(other_stack) and its_stack != other_stack:
        return True
    for step in entry.linen.steps:
        if step.op == "reshape":
            # Axes are put together or apart: of what is named, nothing may be lost.
            return _named(one) != _named(other)
        one = [one[axis] for axis in step.numbers]
    return one != other


def _own_names_differ(entry: Entry, pure: PurePair) -> bool:
    """Whether the port names a leaf by itself: where it does not, a transform names its stack."""
    named = pure.nnx.axis_names.get(entry.nnx.leaf)
    sources = pure.nnx.sources() if pure.nnx.sources else None
    if named is None or not entry.nnx.index:
        return True
    if sources is not None and entry.nnx.leaf in sources.named:
        return True
    (one, _), (other, _) = _names_of_both(entry, pure)
    is_short = len(named) < len(pure.nnx.leaves[entry.nnx.leaf].shape)
    return _in_order(one) != _in_order(named if is_short else other)


def _names_of_both(entry: Entry, pure: PurePair) -> list[tuple[list, list]]:
    """(names of the axes of what is mapped, of those of its stacks) of Linen, and of NNX."""
    return [
        _names(view, model.axis_names.get(view.leaf, ()), model.leaves[view.leaf].shape)
        for view, model in ((entry.linen, pure.linen), (entry.nnx, pure.nnx))
    ]


def _names(view: View, names: tuple, shape: tuple[int, ...]) -> tuple[list, list]:
    """The names of the axes of what `view` takes, and those of the axes of its stacks."""
    every = [*names, *[None] * (len(shape) - len(names))]
    taken = [axis for axis, _ in view.index]
    kept = [name for axis, name in enumerate(every) if axis not in taken]
    return kept, [every[axis] for axis in taken]


def _in_order(names: Sequence) -> list:
    return [name for name in names if name is not None]


def _named(names: Sequence) -> list[str]:
    return sorted(str(name) for name in names if name is not None)
