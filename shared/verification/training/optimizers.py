"""What two optimizers do otherwise, given the same gradients: measured by giving them others."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shared.verification.training.apart import Apart, apart, factor
from shared.verification.training.steps import Sides, Step

_NAMED = 3


def optimizers_apart(sides: Sides, step: Step, found: Apart) -> str:
    """In what the optimizer of NNX differs from that of Linen, both given Linen's gradients.

    Args:
      sides: both sides.
      step: the step.
      found: which updates are apart.
    """
    path = str(found.worst)
    linen, nnx = step.updates
    given = "given the same gradients"
    for one, other, name in ((linen, nnx, "NNX"), (nnx, linen, "Linen")):
        if not np.any(one[path]) and not _is_zero(one):
            return f"is moved in {name} only, {given}{so_are(found)}"
        if not np.any(one[path]) and not _is_zero(other):
            ahead = _ahead(sides, step)
            return f"is moved in {name} only, as all others are, {given}{ahead}"
    return (
        _decayed(sides, step, found)
        or _scaled(sides, step, found)
        or f"is moved otherwise, {given}{_ahead(sides, step)}{_of_a_stack(sides, path)} (by "
        f"{found.gap:.2g}, limit {found.limit:.2g}){so_are(found)}"
    )


def _decayed(sides: Sides, step: Step, found: Apart) -> str | None:
    """What of the update follows from the weight: it is another where all weights are zero."""
    linen_state, nnx_state = step.states
    zeros = {path: np.zeros_like(x) for path, x in sides.linen.leaves(linen_state).items()}
    zeros = {path: x for path, x in zeros.items() if path.startswith("params/")}
    first = sides.linen.apply(sides.linen.with_leaves(linen_state, zeros), step.given)
    moved = {path: np.zeros_like(x) for path, x in sides.moved(zeros).items()}
    second = sides.nnx.apply(sides.nnx.with_leaves(nnx_state, moved), sides.moved(step.given))
    without = sides.moved(sides.linen.record(first).updates), sides.nnx.record(second).updates
    limits = sides.ported.limits
    if apart({path: without[0][path] for path in found.paths}, without[1], limits).paths:
        return None
    path = str(found.worst)
    weight = np.asarray(step.before[path], np.float64)
    changes = [
        np.asarray(side[path], np.float64) - np.asarray(rest[path], np.float64)
        for side, rest in zip(step.updates, without, strict=True)
    ]
    sizes = [float(np.max(np.abs(change), initial=0.0)) for change in changes]
    alone = [name for i, name in enumerate(("Linen", "NNX")) if sizes[1 - i] <= 1e-2 * sizes[i]]
    square = float(np.vdot(weight, weight))
    decay = [float(np.vdot(weight, change)) / square if square else 0.0 for change in changes]
    is_decay = all(
        np.max(np.abs(change - number * weight), initial=0.0) <= 5e-2 * max(sizes)
        for change, number in zip(changes, decay, strict=True)
    )
    if alone and is_decay:
        said = f"is decayed in {alone[0]} only, by {-min(decay):.3g} of the weight"
    elif alone:
        said = f"is moved by its own size in {alone[0]} only, given the same gradients"
    elif is_decay:
        said = f"is decayed by {-decay[0]:.3g} of the weight in Linen, {-decay[1]:.3g} in NNX"
    else:
        return None
    return f"{said}{so_are(found)}"


def _of_a_stack(sides: Sides, path: str) -> str:
    """That a weight is one of several in a leaf of Linen's, or the reverse."""
    for entry in sides.ported.weights.entries:
        if entry.nnx.leaf == path and bool(entry.linen.index) != bool(entry.nnx.index):
            one, other = ("Linen", entry.linen) if entry.linen.index else ("NNX", entry.nnx)
            return (
                f"; {other.leaf} of {one} is a stack: what an optimizer makes of a whole leaf, its "
                "norm say, is there made of all layers"
            )
    return ""


def _scaled(sides: Sides, step: Step, found: Apart) -> str | None:
    """One factor for all updates: a learning rate."""
    number = factor(*step.updates)
    if number is None:
        return None
    return (
        f"the update is {number:.4g} times that of Linen on all {len(step.updates[0])} leaves, "
        f"given the same gradients{_ahead(sides, step)}"
    )


def _ahead(sides: Sides, step: Step) -> str:
    """Whether Linen does with another count what NNX does: then a count is wrong there."""
    state, limits = step.states[0], sides.ported.limits
    places = sides.linen.counts(state)
    for some in dict.fromkeys(((places,) if places else ()) + tuple((p,) for p in places)):
        for more in (1, -1, 2):
            if step.number + more < 1:
                continue
            moved = sides.linen.with_counts(state, some, more)
            record = sides.linen.record(sides.linen.apply(moved, step.given))
            if not apart(sides.moved(record.updates), step.updates[1], limits).paths:
                return f": it is that of Linen's step {step.number + more}, by {' and '.join(some)}"
    return ""


def _is_zero(arrays: Mapping[str, Any]) -> bool:
    return not any(np.any(x) for x in arrays.values())


def so_are(found: Apart) -> str:
    """Names the other paths that are apart."""
    others = [path for path in found.paths if path != found.worst]
    if not others:
        return ""
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    verb = "so are" if len(others) > 1 else "so is"
    return f"; {verb} {', '.join(others[:_NAMED])}{more}"
