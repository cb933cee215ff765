"""Two models with one set of weights, and numbers to compute with."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.models.gradients import NoGradientError, gradients_of, run_forward
from shared.models.pure import PureModel
from shared.models.pure_pair import PurePair
from shared.program.canonical import Names, value_names
from shared.program.drawn_leaves import is_draw
from shared.program.evaluate import Values, evaluate
from shared.program.graph import Graph, Node
from shared.program.unfuse import unfuse
from shared.program.view import View
from shared.program.whole_numbers import WholeNumbers, whole_numbers
from shared.report.result import Check
from shared.verification.limits import Limits
from shared.verification.outputs import Outputs, pair_outputs
from shared.verification.programs import Program, is_output, program
from shared.verification.sample import Sample, at_end, copy_weights, fill, has_nan, is_far
from shared.weights.entry import Entry, leaf_names
from shared.weights.weight_map import WeightMap

# Of how many evaluations, of either program, the values are kept.
_KEPT = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Ported:
    """Two models with one set of weights.

    Attributes:
      linen_program: the forward program of Linen, outputs and updates; nnx_program: that of NNX.
        Where `is_cut`, they are cut as the weights are.
      entries: which weight is which.
      is_unrolled: whether each iteration of a scan has operations of its own in the programs.
      made: the checks that have been made of it, by name.
      cannot_run: why XLA cannot run the models here, if it cannot: then they are computed operation
        by operation.
    """

    pair: PurePair
    linen_program: Program
    nnx_program: Program
    entries: tuple[Entry, ...]
    limits: Limits = dataclasses.field(default_factory=Limits)
    seed: int = 0
    samples: int = 3
    is_unrolled: bool = True
    made: dict[str, Check] = dataclasses.field(default_factory=dict, init=False, repr=False)
    cannot_run: list[str] = dataclasses.field(default_factory=list, init=False, repr=False)
    _values: dict[Any, Values] = dataclasses.field(default_factory=dict, init=False, repr=False)

    @property
    def linen(self) -> PureModel:
        return self.pair.linen

    @property
    def nnx(self) -> PureModel:
        return self.pair.nnx

    @property
    def programs(self) -> tuple[Program, Program]:
        """The forward programs of Linen and of NNX."""
        return self.linen_program, self.nnx_program

    @functools.cached_property
    def backward(self) -> tuple[Program, Program]:
        """The gradient programs of Linen and of NNX.

        Raises:
          NoGradientError: JAX cannot differentiate one of the models.
        """
        linen, nnx = (
            program(
                gradients_of(model, self.losses(side), self.pair.masks),
                model,
                self.pair.inputs,
                self.is_unrolled,
            )
            for side, model in enumerate((self.linen, self.nnx))
        )
        if self.is_cut:
            linen, nnx = (dataclasses.replace(p, graph=unfuse(p.graph)) for p in (linen, nnx))
        return linen, nnx

    @property
    def draws(self) -> bool:
        """Whether a model draws random numbers."""
        return any(model.draws is not None for model in (self.linen, self.nnx))

    @property
    def can_run(self) -> bool:
        """Whether XLA can run the models. A compiled program would draw numbers of its own."""
        return not (self.cannot_run or self.draws)

    @property
    def is_proved(self) -> bool:
        """Whether a check has found the two programs to be one."""
        return "programs" in self.made and self.made["programs"].status == "identical"

    @property
    def is_short(self) -> bool:
        """Whether the forward programs take less time operation by operation than compiled."""
        return self.is_unrolled and all(program.is_short for program in self.programs)

    @functools.cached_property
    def outputs_are_far_apart(self) -> bool:
        """Whether float64, which decides then, has them further apart than rounding has any.

        Not looked at where it would take longer than to compile the programs.
        """
        if self.limits != Limits() or self.is_narrow or not self.is_short:
            return False
        sample = self.sample(0)
        returned = [
            p.returned(self.values(side, p.graph, sample)) for side, p in enumerate(self.programs)
        ]
        linen, nnx = ({path: x for path, x in each.items() if is_output(path)} for each in returned)
        return any(is_far(linen[path], nnx[path]) for path in linen.keys() & nnx.keys())

    @functools.cached_property
    def has_gradients(self) -> bool:
        """Whether JAX can differentiate both models."""
        try:
            return bool(self.backward)
        except NoGradientError:
            return False

    @functools.cached_property
    def outputs(self) -> Outputs:
        """The outputs, updates and sown values that both forward programs have."""
        return self.pair_outputs(*self.programs)

    def pair_outputs(self, linen: Program, nnx: Program) -> Outputs:
        """The outputs that two programs have."""
        leaves = self.linen.leaves, self.nnx.leaves
        return pair_outputs(linen, nnx, self.entries, leaves, self.linen.used_in_call)

    @functools.cached_property
    def is_narrow(self) -> bool:
        """Whether a program computes in less than float32, where rounding is part of it."""
        return self.linen_program.is_narrow or self.nnx_program.is_narrow

    @functools.cached_property
    def are_narrow(self) -> bool:
        """Whether both do, in as many products: a cast that one lacks is no rounding."""
        one, other = self.linen_program.products, self.nnx_program.products
        both = self.linen_program.is_narrow and self.nnx_program.is_narrow
        return both and (one.total() != other.total() or one == other)

    @property
    def is_cut(self) -> bool:
        """Whether a weight of one side is a part of a weight of the other."""
        return any(entry.linen.part or entry.nnx.part for entry in self.entries)

    @functools.cached_property
    def weights(self) -> WeightMap:
        """The map of the weights, without what is drawn."""
        entries = tuple(entry for entry in self.entries if not entry.is_draw)
        linen, nnx = (
            {path: leaf for path, leaf in model.leaves.items() if not is_draw(path)}
            for model in (self.linen, self.nnx)
        )
        return WeightMap(entries, linen, nnx, self.nnx.places, self.linen.places)

    def random_leaves(self, sample: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Random numbers in every leaf, for Linen and the same for NNX.

        Initial values would hide mistakes: a lost bias is no loss while it is zero.
        """
        return fill(self.linen.leaves, self.nnx.leaves, self.entries, self.seed + sample)

    def inputs(self, sample: int) -> tuple:
        """Inputs to compute with."""
        return self.pair.sample_inputs(self.seed + sample, self._whole_numbers)

    def losses(self, side: int) -> list[View]:
        """What Linen (`side` 0) or NNX sows to be trained on."""
        return [views[side] for views in self.outputs.losses]

    @property
    def has_scalars(self) -> bool:
        """Whether a weight of Linen's is one number that is floating."""
        return any(map(_is_scalar, self.linen.leaves.values()))

    def sample(
        self,
        number: int,
        inputs: float = 1,
        weights: float = 1,
        scalars: float | None = None,
        end: str = "",
    ) -> Sample:
        """Random weights and inputs, those that are floating times `weights` and `inputs`.

        Weights of one number are `scalars`, if that is given; uniform draws are near one `end`.
        """

        def times(factor: float, x: Any) -> Any:
            is_large = factor != 1 and jnp.issubdtype(x.dtype, jnp.inexact)
            return (x * factor).astype(x.dtype) if is_large else x

        def weight(path: str, x: Any) -> Any:
            if is_draw(path):
                return at_end(x, end) if end else x
            if scalars is not None and _is_scalar(x):
                return np.full_like(x, scalars)
            return np.asarray(times(weights, x))

        linen, nnx = (
            {path: weight(path, x) for path, x in s.items()} for s in self.random_leaves(number)
        )
        copy_weights(self.entries, linen, nnx)  # one number of Linen may be one of several of NNX
        flat, tree = jax.tree.flatten(self.inputs(number))
        given = jax.tree.unflatten(
            tree, [x if i in self.pair.masks else times(inputs, x) for i, x in enumerate(flat)]
        )
        made_of = (number, inputs, weights, scalars, end)
        return Sample(linen, nnx, given, made_of)

    def values(self, side: int, graph: Graph, sample: Sample) -> Values:
        """The values of a program of Linen's (`side` 0) or of NNX, in float64."""
        key = (graph, sample.made_of, sample.casts)
        if key not in self._values:
            while len(self._values) >= _KEPT:
                del self._values[next(iter(self._values))]
            leaves = sample.nnx if side else sample.linen
            flat = jax.tree.leaves(sample.inputs)
            self._values[key] = evaluate(graph, leaves, flat, casts=sample.casts)
        return self._values[key]

    @functools.cached_property
    def names(self) -> Names:
        """Those that name the values of all programs of the pair."""
        return Names()

    def value_names(self, side: int, graph: Graph) -> dict[Node, int]:
        """Each value's name by how it is computed, equal for equal values of the two sides."""
        if graph not in self._value_names:
            of_leaf = leaf_names(self.entries, graph, linen=side == 0)
            self._value_names[graph] = value_names(self.names, graph, of_leaf)
        return self._value_names[graph]

    @functools.cached_property
    def _value_names(self) -> dict[Graph, dict[Node, int]]:
        return {}

    @functools.cached_property
    def _whole_numbers(self) -> dict[int, WholeNumbers]:
        found = whole_numbers([p.graph for p in self.programs])
        if any(numbers.negative for numbers in found.values()):
            # Where they have no place in the model, what it makes of them is no number.
            for sample in range(self.samples):
                inputs = self.pair.sample_inputs(self.seed + sample, found)
                outputs, _ = run_forward(self.linen, self.random_leaves(sample)[0], inputs)
                if any(map(has_nan, jax.tree.leaves(outputs))):
                    return {i: dataclasses.replace(n, has_negative=False) for i, n in found.items()}
        return found


def _is_scalar(x: Any) -> bool:
    return x.size == 1 and jnp.issubdtype(x.dtype, jnp.floating)


def timed(check: Callable[[Ported], Check], ported: Ported) -> Check:
    """What `check` finds, and how long that takes."""
    started = time.perf_counter()
    made = check(ported)
    return dataclasses.replace(made, seconds=time.perf_counter() - started)
