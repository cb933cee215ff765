"""A traced program of one model, and the names of its outputs."""

import collections
import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from shared.errors import during
from shared.models.pure import PureModel, described
from shared.program.building import pruned
from shared.program.evaluate import Values
from shared.program.graph import Graph, Node, Value, held_by
from shared.program.jax_programs import PRODUCTS
from shared.program.trace import trace

# A short program has at most so many operations, which make so many numbers.
_FEW, _FEW_NUMBERS = 5_000, 20_000_000
_NAMES = {"linen": "Linen's model", "nnx": "NNX's model"}


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

    @functools.cached_property
    def is_narrow(self) -> bool:
        """Whether it computes in less than float32, where rounding is part of it."""
        return any(
            jnp.issubdtype(aval.dtype, jnp.floating) and jnp.finfo(aval.dtype).bits < 32
            for node in self.graph.nodes
            for aval in node.avals
            if not jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key)
        )

    def returned(self, values: Values) -> dict[str, Any]:
        """{path: array} of what it returns, given the values of its operations."""
        of_outputs = (values[node][which] for node, which in self.graph.outputs)
        return dict(zip(self.outputs, of_outputs, strict=True))

    @functools.cached_property
    def is_short(self) -> bool:
        """Whether to compute it operation by operation takes less time than to compile it."""
        nodes = self.graph.nodes
        return len(nodes) <= _FEW and sum(map(_num_computed, nodes)) <= _FEW_NUMBERS

    @functools.cached_property
    def products(self) -> collections.Counter[tuple[str, ...]]:
        """How many products there are of operands of which types."""
        return collections.Counter(
            tuple(str(arg.avals[which].dtype) for arg, which in node.args)
            for node in self.graph.nodes
            if node.op in ("dot_general", "conv_general_dilated")
        )


def _num_computed(node: Node) -> int:
    """How many numbers an operation makes; those that a product adds up are counted."""
    made = sum(math.prod(aval.shape) for aval in node.avals)
    if node.op not in PRODUCTS:
        return made
    one, other = (math.prod(arg.avals[which].shape) for arg, which in node.args[:2])
    # Of shapes (M, K) and (K, N): M * N sums of K numbers. A batch makes it more than it is.
    return made + math.isqrt(one * other * made)


def called(model: PureModel, inputs: tuple) -> contextlib.AbstractContextManager[None]:
    """Notes on what is raised inside that it was raised in a call of `model`."""
    return during(f"the call of {_NAMES[model.name]} on {described(inputs)}")


def program(function: Callable, model: PureModel, inputs: tuple, unroll: bool = True) -> Program:
    """The program of `function(leaves, inputs) -> (a tree, {path: array})` on abstract values."""
    with called(model, inputs):
        graph, (first, second) = trace(function, model.leaves, inputs, unroll)
    if model.draws is not None:
        graph = model.draws.given(graph)
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
    roles = tuple(path if is_output(path) else "update" for path in paths)
    graph = dataclasses.replace(graph, roles=roles)
    return Program(graph, tuple(paths), tuple(named[path] for path in paths))


def _is_kept(path: str, value: Value) -> bool:
    return path.startswith("params/") and held_by(value) == path


def is_output(path: str) -> bool:
    """Whether what a program returns at `path` is an output, and no update of a leaf."""
    return path == "output" or path.startswith(("output[", "output."))


def named_outputs(outputs: Any) -> dict[str, Any]:
    """{path: array} of a tree of outputs."""
    leaves = jax.tree_util.tree_flatten_with_path(outputs)[0]
    return {"output" + jax.tree_util.keystr(path): leaf for path, leaf in leaves}
