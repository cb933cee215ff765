"""What the checks have in common: the two models ready to run, and what a check reports."""

import collections
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.checks.sample import Sample, copy_weights, fill, has_nan
from shared.errors import during
from shared.models.pure import PureModel, described
from shared.pair import PurePair
from shared.program.graph import Graph, Value, held_by, pruned
from shared.program.trace import trace
from shared.program.whole_numbers import WholeNumbers, whole_numbers
from shared.weights.weight_map import Entry, WeightMap

_NAMES = {"linen": "Linen's model", "nnx": "NNX's model"}
STATUSES = ("identical", "equal", "close", "different", "undecided")


@dataclasses.dataclass(frozen=True)
class Check:
    """What one check found, every measured value beside its limit.

    Attributes:
      status: one of `STATUSES`.
      max_abs: of the differences; max_rel, max_ulp: the same relative to the largest number of the
        array, and in units in its last place; None where nothing was measured.
      limit: what "close" allows, in words; None where only equality counts.
      worst_leaf: the path of the largest difference.
      note: what else there is to say, in one line.
      sample: on which random numbers the difference is largest.
    """

    name: str
    status: str
    max_abs: float | None = None
    max_ulp: float | None = None
    max_rel: float | None = None
    limit: str | None = None
    worst_leaf: str | None = None
    seconds: float = 0.0
    note: str = ""
    sample: int = 0


@dataclasses.dataclass(frozen=True)
class Limits:
    """Up to where two results are close: |a - b| <= atol + rtol * max |a|, of the whole array.

    What stands for minus infinity in a mask is not counted into the size of an array.

    The defaults are for float32 programs that differ in the order of their operations: 1e-5 and
    1e-6 for results, 1e-4 for what is derived from them, as the test suites of JAX, chex and
    PyTorch have it.
    """

    rtol: float | None = None
    atol: float | None = None

    def of(self, dtype: Any, derived: bool, narrow: bool = False) -> tuple[float, float]:
        """(rtol, atol) for a result of `dtype`, or for one derived from it; see `compare`."""
        if not jnp.issubdtype(dtype, jnp.inexact):
            return 0.0, 0.0  # whole numbers have no rounding
        half = narrow or jnp.finfo(dtype).bits < 32
        rtol, atol = (1.6e-2, 1e-3) if half else ((1e-4, 1e-6) if derived else (1e-5, 1e-6))
        return (
            rtol if self.rtol is None else self.rtol,
            atol if self.atol is None else self.atol,
        )


@dataclasses.dataclass(frozen=True)
class Program:
    """A flat program and the name of each of its outputs.

    Attributes:
      outputs: a path such as `output[0]`, or that of the leaf that it updates.
      shapes: shape and dtype of each output.
    """

    graph: Graph
    outputs: tuple[str, ...]
    shapes: tuple[Any, ...]


def program(function: Callable, model: PureModel, inputs: tuple, unroll: bool = True) -> Program:
    """The program of `function(leaves, inputs) -> (a tree, {path: array})` on abstract values."""
    with during(f"the call of {_NAMES[model.name]} on {described(inputs)}"):
        graph, (first, second) = trace(function, model.leaves, inputs, unroll)
    named = named_outputs(first) | second
    # The order of `jax.tree`: the tree first, then the dict by its keys.
    paths = [*named_outputs(first), *sorted(second)]
    # Weights that leave a call as they came are no updates.
    kept = [
        (path, value)
        for path, value in zip(paths, graph.outputs, strict=True)
        if not (function is model.apply and _is_kept(path, value))
    ]
    paths = [path for path, _ in kept]
    graph = pruned(graph, [value for _, value in kept])
    # What a call leaves in a collection has another place on each side.
    roles = tuple(path if path.startswith("output") else "update" for path in paths)
    graph = dataclasses.replace(graph, roles=roles)
    return Program(graph, tuple(paths), tuple(named[path] for path in paths))


def _is_kept(path: str, value: Value) -> bool:
    return path.startswith("params/") and held_by(value) == path


@dataclasses.dataclass(frozen=True)
class Ported:
    """Two models with one set of weights.

    Attributes:
      linen_program: the forward program of Linen, outputs and updates; nnx_program: that of NNX.
        Where `is_cut`, they are cut as the weights are.
      entries: which weight is which.
      is_unrolled: whether each iteration of a scan has operations of its own in the programs.
    """

    pair: PurePair
    linen_program: Program
    nnx_program: Program
    entries: tuple[Entry, ...]
    limits: Limits = Limits()
    seed: int = 0
    samples: int = 3
    is_unrolled: bool = True

    @functools.cached_property
    def is_narrow(self) -> bool:
        """Whether a program computes in less than float32, where rounding is part of it."""
        return any(map(_is_narrow, (self.linen_program, self.nnx_program)))

    @functools.cached_property
    def are_narrow(self) -> bool:
        """Whether both do, in as many products: a cast that one lacks is no rounding."""
        programs = (self.linen_program, self.nnx_program)
        one, other = map(_products, programs)
        return all(map(_is_narrow, programs)) and (one.total() != other.total() or one == other)

    @property
    def is_cut(self) -> bool:
        """Whether a weight of one side is a part of a weight of the other."""
        return any(entry.linen.part or entry.nnx.part for entry in self.entries)

    @functools.cached_property
    def weights(self) -> WeightMap:
        return WeightMap(self.entries, self.linen.leaves, self.nnx.leaves)

    def random_leaves(self, sample: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Random numbers in every leaf, for Linen and the same for NNX.

        Initial values would hide mistakes: a lost bias is no loss while it is zero.
        """
        return fill(self.linen.leaves, self.nnx.leaves, self.entries, self.seed + sample)

    def inputs(self, sample: int) -> tuple:
        return self.pair.sample_inputs(self.seed + sample, self._whole_numbers)

    @property
    def has_scalars(self) -> bool:
        """Whether a weight of Linen's is one number that is floating."""
        return any(map(_is_scalar, self.linen.leaves.values()))

    def sample(
        self, number: int, inputs: float = 1, weights: float = 1, scalars: float | None = None
    ) -> Sample:
        """Random weights and inputs, those that are floating times `weights` and `inputs`.

        Weights of one number are `scalars`, if that is given.
        """

        def times(factor: float, x: Any) -> Any:
            is_large = factor != 1 and jnp.issubdtype(x.dtype, jnp.inexact)
            return (x * factor).astype(x.dtype) if is_large else x

        def weight(x: Any) -> Any:
            if scalars is not None and _is_scalar(x):
                return np.full_like(x, scalars)
            return np.asarray(times(weights, x))

        linen, nnx = (
            {path: weight(x) for path, x in s.items()} for s in self.random_leaves(number)
        )
        copy_weights(self.entries, linen, nnx)  # one number of Linen may be one of several of NNX
        given = jax.tree.map(functools.partial(times, inputs), self.inputs(number))
        is_large = (inputs, weights, scalars) != (1, 1, None)
        return Sample(linen, nnx, given, is_large)

    @functools.cached_property
    def _whole_numbers(self) -> dict[int, WholeNumbers]:
        found = whole_numbers([self.linen_program.graph, self.nnx_program.graph])
        if any(numbers.negative for numbers in found.values()):
            # Where they have no place in the model, what it makes of them is no number.
            apply = jax.jit(self.linen.apply)
            for sample in range(self.samples):
                inputs = self.pair.sample_inputs(self.seed + sample, found)
                outputs = apply(self.random_leaves(sample)[0], inputs)[0]
                if any(map(has_nan, jax.tree.leaves(outputs))):
                    return {i: dataclasses.replace(n, has_negative=False) for i, n in found.items()}
        return found

    @property
    def linen(self) -> PureModel:
        return self.pair.linen

    @property
    def nnx(self) -> PureModel:
        return self.pair.nnx


def _is_scalar(x: Any) -> bool:
    return x.size == 1 and jnp.issubdtype(x.dtype, jnp.floating)


def _is_narrow(program: Program) -> bool:
    return any(
        jnp.issubdtype(aval.dtype, jnp.floating) and jnp.finfo(aval.dtype).bits < 32
        for node in program.graph.nodes
        for aval in node.avals
        if not jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key)
    )


def _products(program: Program) -> collections.Counter[tuple[str, ...]]:
    """How many products there are of operands of which types."""
    return collections.Counter(
        tuple(str(arg.avals[which].dtype) for arg, which in node.args)
        for node in program.graph.nodes
        if node.op in ("dot_general", "conv_general_dilated")
    )


def named_outputs(outputs: Any) -> dict[str, Any]:
    """{path: array} of a tree of outputs."""
    leaves = jax.tree_util.tree_flatten_with_path(outputs)[0]
    return {"output" + jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def timed(check: Callable[[Ported], Check], ported: Ported) -> Check:
    """What `check` finds, and how long that takes."""
    started = time.perf_counter()
    made = check(ported)
    return dataclasses.replace(made, seconds=time.perf_counter() - started)
