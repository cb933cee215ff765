"""The first difference of a step, in the order in which things are computed, and what it is of."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np

from shared.verification.limits import Limits
from shared.verification.training.apart import (
    MOMENTS_RTOL,
    ROUNDING,
    Apart,
    apart,
    factor,
    largest,
)
from shared.verification.training.optimizers import optimizers_apart, so_are
from shared.verification.training.steps import Arrays, Sides, Step

_LOSS_RTOL, _GRADIENTS_RTOL, _PARAMS_RTOL = 1e-5, 1e-4, 1e-5


@dataclasses.dataclass(frozen=True)
class Finding:
    """A difference.

    Attributes:
      step: from 1.
      leaf: the first that is out of limits.
      said: what is different there, in words.
      equal: what of the step had been compared and was not out of limits.
    """

    step: int
    leaf: str
    said: str
    gap: float
    limit: float
    equal: tuple[str, ...] = ()

    def __str__(self) -> str:
        rest = f"; {', '.join(self.equal)} equal there" if self.equal else ""
        return f"step {self.step}, {self.leaf}: {self.said}{rest}"


# (what it is called, what is apart, (what is apart) -> words)
_Look = tuple[str, Apart, Callable[[Apart], str]]


def first_difference(
    sides: Sides, step: Step, draw_alike: bool
) -> tuple[Finding | None, Apart | None]:
    """(the first difference of a step, or else what is nearest to its limit if not all is equal).

    Args:
      sides: both sides.
      step: what they did.
      draw_alike: whether both draw the same; otherwise what follows from draws is not compared.
    """
    equal: list[str] = []
    nearest: Apart | None = None
    for name, found, words in _looks(sides, step, draw_alike):
        if found.paths:
            leaf = found.paths[0] if found.worst not in found.paths else found.worst
            assert leaf is not None
            said = words(dataclasses.replace(found, worst=leaf))
            return Finding(step.number, leaf, said, found.gap, found.limit, tuple(equal)), None
        equal.append(name)
        if not found.is_equal and (nearest is None or found.beside > nearest.beside):
            nearest = found
    return None, nearest


def _looks(sides: Sides, step: Step, draw_alike: bool) -> Iterator[_Look]:
    limits = sides.ported.limits
    # Where products are of half precision, their rounding is all that limits can be of.
    half = Limits().of(np.float16, derived=True)[0] if sides.ported.are_narrow else 0.0
    if draw_alike:
        if step.loss[0]:
            found = apart(*step.loss, limits, max(half, _LOSS_RTOL), atol=1e-6)
            yield "loss", found, functools.partial(_values, step.loss, "and weights")
        if step.others[0]:
            found = apart(*step.others, limits, max(half, _LOSS_RTOL), atol=1e-6)
            yield "statistics", found, functools.partial(_statistics, step)
        floor = max(half, ROUNDING) * largest(step.gradients[0])
        found = apart(*step.gradients, limits, max(half, _GRADIENTS_RTOL), atol=floor)
        yield "gradients", found, functools.partial(_gradients, step)
    if step.left_out:
        names = {path: np.ones(()) for path in step.left_out}
        yield "filter", apart(names, {}, Limits(), rtol=0.0), _left_out
    one, other = ({"optimizer": np.float64(n)} for n in step.calls)
    found = apart(one, other, Limits(), rtol=0.0)
    yield "calls of the optimizer", found, functools.partial(_calls, step)
    found = apart(*step.updates, limits)
    yield "optimizers", found, functools.partial(optimizers_apart, sides, step)
    if step.counts[0].keys() == step.counts[1].keys():
        counts = [{p: np.asarray(x, np.float64) for p, x in side.items()} for side in step.counts]
        found = apart(counts[0], counts[1], Limits(), 1e-5)
        yield "counts", found, functools.partial(_values, (counts[0], counts[1]), "")
    if draw_alike:
        for place, moment in step.moments.items():
            floor = max(half, ROUNDING) * largest(moment[0])
            found = apart(*moment, limits, max(half, MOMENTS_RTOL), floor)
            yield f"moments {place}", found, functools.partial(_moment, place)
        yield "weights", _weights(step, limits), functools.partial(_kept, step)


def _weights(step: Step, limits: Limits) -> Apart:
    """The weights after the step.

    Where a gradient is zero but for rounding, Adam makes a full step of the rounding: what the
    optimizer of NNX has returned explains the weight then.
    """
    found = apart(*step.after, limits, _PARAMS_RTOL, atol=1e-6)
    applied = {
        path: np.asarray(step.before[path]) + np.asarray(step.own[path], step.after[1][path].dtype)
        for path in found.paths
        if path in step.own
    }
    left = apart(applied, step.after[1], limits)
    unexplained = tuple(path for path in found.paths if path in left.paths or path not in applied)
    return dataclasses.replace(found, paths=unexplained)


def _kept(step: Step, found: Apart) -> str:
    path = str(found.worst)
    if np.array_equal(step.before[path], step.after[1][path]):
        return "the weight is as before the step in NNX: what the optimizer makes is not applied"
    return f"the step of NNX leaves another weight than its optimizer makes{_of_limit(found)}"


def _values(both: tuple[Arrays, Arrays], what: str, found: Apart) -> str:
    path = str(found.worst)
    one, other = (float(np.ravel(side[path])[0]) for side in both)
    same = f", though inputs {what} are equal" if what else ""
    return f"{one:.6g} in Linen, {other:.6g} in NNX{same}{_of_limit(found)}"


def _statistics(step: Step, found: Apart) -> str:
    path = str(found.worst)
    if np.array_equal(step.others_before[path], step.others[1][path]):
        return "as before the step in NNX: the step does not keep what the call leaves"
    if np.array_equal(step.others_before[path], step.others[0][path]):
        return "as before the step in Linen: its step does not keep what the call leaves"
    return f"another after the step{_of_limit(found)}"


def _gradients(step: Step, found: Apart) -> str:
    linen, nnx = step.gradients
    number = factor(linen, nnx)
    leaves = f"on all {len(linen)} leaves" if len(linen) > 1 else "there"
    if number is not None and abs(number - 1) > 1e-3:
        return f"the gradient is {number:.4g} times that of Linen {leaves}"
    path = str(found.worst)
    if not np.any(nnx[path]):
        return "the gradient is zero in NNX"
    alone = factor({path: linen[path]}, {path: nnx[path]})
    many = f"{len(found.paths)} of {len(linen)} leaves"
    if alone is not None:
        return f"the gradient is {alone:.4g} times that of Linen, {many} are different"
    return f"the gradient is another, {many} are different{_of_limit(found)}"


def _calls(step: Step, found: Apart) -> str:
    times = [f"{n} times" if n != 1 else "once" for n in step.calls]
    return f"called {times[0]} in Linen, {times[1]} in NNX, since the first step"


def _left_out(found: Apart) -> str:
    return f"is trained in Linen only, `wrt` of nnx.Optimizer leaves it out{so_are(found)}"


def _moment(place: str, found: Apart) -> str:
    return f"{place} is another{_of_limit(found)}"


def _of_limit(found: Apart) -> str:
    return f" (by {found.gap:.2g}, limit {found.limit:.2g})"
