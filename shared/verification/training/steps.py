"""Steps of both sides, each from the same weights: what went into the optimizer, what came out.

After each step the port is given Linen's weights: so each is judged by itself, and rounding does
not grow. The port keeps the state of its own optimizer. A second one is given Linen's gradients: in
what that differs, the optimizers differ.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from shared.errors import InputError
from shared.models.gradients import is_floating
from shared.models.linen_trainee import Record
from shared.models.training import Training
from shared.verification.ported import Ported
from shared.verification.runs import gradients_of_both

# Enough for the start of a schedule, two rounds of `optax.MultiSteps(tx, 2)`, and a key that is
# not folded.
STEPS = 5

Arrays = dict[str, Any]
Both = tuple[Arrays, Arrays]


@dataclasses.dataclass(frozen=True)
class Step:
    """What both sides did in one step, (Linen's moved by the map, NNX's), by NNX's names.

    Attributes:
      number: from 1.
      loss: by name, if there are several numbers; nothing where gradients are given.
      gradients: that the optimizers were given, of those that both were given.
      updates: of Linen's optimizer, and of that of NNX with the same gradients.
      own: what the optimizer of NNX returned in the step itself.
      calls: how often each optimizer has been called.
      counts: {place: array} of what is kept beside moments; moments: {place: both}.
      before: the params before the step; after: after it, of both.
      others: the other variables after it, of both; others_before: before it.
      states: of Linen and of the second NNX optimizer before the step.
      given: Linen's gradients, by Linen's names.
      not_compared: what of the state of the optimizers is not compared.
      left_out: the params that the optimizer of NNX is not given, though Linen moves them.
    """

    number: int
    loss: Both
    gradients: Both
    updates: Both
    own: Arrays
    calls: tuple[int, int]
    counts: Both
    moments: dict[str, Both]
    before: Arrays
    after: Both
    others: Both
    others_before: Arrays
    states: tuple[Any, Any]
    given: Arrays
    not_compared: tuple[str, ...]
    left_out: tuple[str, ...] = ()


class Sides:
    """Both sides of a pair that is trained, and the map between them."""

    def __init__(self, ported: Ported, training: Training) -> None:
        self.ported, self.training = ported, training
        self.linen, self.nnx = training.linen, training.nnx
        linen, nnx = ported.random_leaves(0)
        self.first = {path: linen[path] for path in ported.weights.linen}
        self.nnx_first = {path: nnx[path] for path in ported.nnx.leaves if path in nnx}

    def start(self, are_alike: bool) -> tuple[Any, Any]:
        """The states to begin with: equal weights; keys that all draw the same, or their own."""
        linen = self.linen.start(self.first, are_alike)
        nnx = self.nnx.start({**self.nnx_first, **self.moved(self.first)}, are_alike)
        return linen, nnx

    def inputs(self, number: int) -> tuple:
        """What step `number` is called on."""
        given = self.training.inputs
        return self.ported.inputs(number) if given is None else given(self.ported.seed + number)

    def moved(self, leaves: Mapping[str, Any]) -> Arrays:
        """Linen's leaves by NNX's names: those of which every piece is among `leaves`."""
        specs = self.ported.weights.linen
        every = {
            path: np.asarray(leaves[path]) if path in leaves else np.zeros(spec.shape, spec.dtype)
            for path, spec in specs.items()
        }
        missing = {
            entry.nnx.leaf
            for entry in self.ported.weights.entries
            if entry.linen.leaf not in leaves
        }
        found = self.ported.weights.move(every, to="nnx")
        return {path: leaf for path, leaf in found.items() if path not in missing}

    def steps(self) -> Iterator[Step]:
        """`STEPS` steps, on new inputs each.

        Raises:
          NoGradientError: JAX cannot differentiate one of the models.
          InputError: a step does not return what it should.
        """
        steps = self._steps()
        first = next(steps)
        others = first.updates[0].keys() - first.own.keys()
        left: set[str] = set()
        if others:
            # A schedule may start with steps that move nothing.
            kept = [first, *steps]
            left = {p for step in kept for p in others if np.any(step.updates[0][p])}
            first, steps = kept[0], iter(kept[1:])
        for step in itertools.chain([first], steps):
            yield dataclasses.replace(step, left_out=tuple(sorted(left)))

    def _steps(self) -> Iterator[Step]:
        linen, nnx = self.start(are_alike=True)
        second = nnx
        for number in range(1, STEPS + 1):
            before = self.linen.leaves(linen)
            moved = self.moved(before)
            nnx, second = (self.nnx.with_leaves(each, moved) for each in (nnx, second))
            new, new_nnx, loss, after = self._stepped(linen, nnx, number)
            record, own = self.linen.record(new), self.nnx.record(new_nnx)
            if not record.calls:
                raise InputError(
                    "Pair.linen_step: it does not call the optimizer of its state; write "
                    "state = state.apply_gradients(grads=grads)"
                )
            given = self.moved(record.gradients)
            new_second = self.nnx.apply(second, given)
            updates = self.nnx.record(new_second).updates
            params, others = _split(_both(self.moved(after[0]), after[1]))
            yield Step(
                number,
                loss,
                _both(given, own.gradients),
                (self.moved(record.updates), updates),
                own.updates,
                (record.calls, own.calls),
                (record.state.rest, own.state.rest),
                self._moments(record, own),
                moved,
                params,
                others,
                {path: moved[path] for path in others[0] if path in moved},
                (linen, second),
                record.gradients,
                _not_compared(record, own),
            )
            linen, nnx, second = new, new_nnx, new_second

    def _stepped(self, linen: Any, nnx: Any, number: int) -> tuple[Any, Any, Both, Both]:
        """(the state of each, losses, leaves after the step)."""
        inputs = self.inputs(number)
        if self.training.has_steps:
            new, loss = self.linen.step(linen, inputs)
            new_nnx, other = self.nnx.step(nnx, inputs)
            after = self.linen.leaves(new), self.nnx.leaves(new_nnx)
            return new, new_nnx, _losses(loss, other), after
        leaves = self.ported.random_leaves(number)
        leaves[0].update({p: np.asarray(x) for p, x in self.linen.leaves(linen).items()})
        leaves[1].update({p: np.asarray(x) for p, x in self.nnx.leaves(nnx).items()})
        found = gradients_of_both(self.ported, leaves, inputs)
        (_, (_, first)), (_, (_, other)) = found
        new, new_nnx = self.linen.apply(linen, first), self.nnx.apply(nnx, other)
        # What the call leaves in other collections is another check's: it is not kept here.
        return new, new_nnx, ({}, {}), (self.linen.leaves(new), self.nnx.leaves(new_nnx))

    def _moments(self, linen: Record, nnx: Record) -> dict[str, Both]:
        return {
            place: _both(self.moved(moment), nnx.state.moments[place])
            for place, moment in linen.state.moments.items()
            if place in nnx.state.moments
        }


def _not_compared(linen: Record, nnx: Record) -> tuple[str, ...]:
    """Places in the state of one optimizer, or without a weight that they are of."""
    one, other = ({*r.state.moments, *r.state.rest} for r in (linen, nnx))
    return tuple(sorted({*(one ^ other), *linen.state.unnamed, *nnx.state.unnamed}))


def _both(linen: Arrays, nnx: Arrays) -> Both:
    """Of both, what both have and what is floating."""
    names = [path for path, x in linen.items() if path in nnx and is_floating(x)]
    return {path: linen[path] for path in names}, {path: nnx[path] for path in names}


def _split(both: Both) -> tuple[Both, Both]:
    """(params of both, all else of both)."""
    params, others = (
        tuple(
            {p: x for p, x in side.items() if p.startswith("params/") == is_param} for side in both
        )
        for is_param in (True, False)
    )
    return (params[0], params[1]), (others[0], others[1])


def _losses(linen: Any, nnx: Any) -> Both:
    """What both steps return beside the state, by name.

    Raises:
      InputError: they return other things.
    """
    one, other = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/") or "loss": np.asarray(x)
            for path, x in jax.tree_util.tree_flatten_with_path(side)[0]
        }
        for side in (linen, nnx)
    )
    if one.keys() != other.keys():
        raise InputError(
            f"Pair.nnx_step: it returns {', '.join(other) or 'nothing'}, linen_step returns "
            f"{', '.join(one) or 'nothing'} beside the state; return the same of both"
        )
    shapes = [(name, one[name].shape, other[name].shape) for name in one]
    for name, first, second in shapes:
        if first != second:
            raise InputError(f"Pair.nnx_step: {name} is {second}, {first} of linen_step")
    return one, other
