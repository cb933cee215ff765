"""Which whole numbers an input may be: places in a table, classes, numbers it is compared with."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from shared.program.graph import Graph, Node, constant_value
from shared.program.jax_programs import COMPARISONS

# What whole numbers become that are still those of the input, or next to them.
_KEEP = {
    *("reshape", "squeeze", "broadcast_in_dim", "transpose", "concatenate", "slice", "rev"),
    *("convert_element_type", "select_n", "clamp", "min", "max", "pad", "index", "stop_gradient"),
    *("add", "sub", "choose"),
}

_MANY = 1000


@dataclasses.dataclass(frozen=True)
class WholeNumbers:
    """Whole numbers from 0, and those below it that a program compares with: labels to ignore.

    Attributes:
      below: what all are below; None if nothing is known.
      told_apart: those that a program compares with.
      has_negative: whether those below 0 are among them.
    """

    below: int | None = None
    told_apart: frozenset[int] = frozenset()
    has_negative: bool = True

    @property
    def telling(self) -> list[int]:
        """Those at which a program may change what it does; all, if that is not known."""
        near = {n + d for n in self.told_apart for d in (-1, 0, 1) if 0 <= n + d < self._top}
        return sorted((near or {*range(min(self._top, _MANY))}) | self.negative)

    @property
    def negative(self) -> set[int]:
        """Those below 0; what no table bounds is below 0 where that is asked."""
        found = {n for n in self.told_apart if n < 0}
        if self.below is None and 0 in self.told_apart:
            found.add(-1)
        return found if self.has_negative else set()

    @property
    def _top(self) -> int:
        # Where nothing is known: small ones are within any table that they may index.
        return max(self.told_apart, default=0) + 2 if self.below is None else max(1, self.below)

    def sample(self, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        """Random ones of `shape`, every second one of those that are telling."""
        telling, any_of_them = rng.choice(self.telling, shape), rng.integers(0, self._top, shape)
        return np.where(rng.integers(0, 2, shape) == 0, telling, any_of_them)

    def __or__(self, other: "WholeNumbers") -> "WholeNumbers":
        """What fits both."""
        limits = [limit for limit in (self.below, other.below) if limit is not None]
        return WholeNumbers(
            min(limits, default=None),
            self.told_apart | other.told_apart,
            self.has_negative and other.has_negative,
        )


def whole_numbers(graphs: Sequence[Graph]) -> dict[int, WholeNumbers]:
    """{number of an input: what programs do with it}, of inputs that are whole numbers."""
    found: dict[int, WholeNumbers] = {}
    for graph in graphs:
        origin: dict[Node, frozenset[int]] = {}
        for node in graph.nodes:
            sources = [origin.get(arg, frozenset()) for arg, _ in node.args]
            for position, inputs in enumerate(sources):
                for use in _uses(node, position) if inputs else ():
                    for number in inputs:
                        found[number] = found.get(number, WholeNumbers()) | use
            whole = bool(node.avals) and all(_is_whole(aval) for aval in node.avals)
            if node.op == "input" and whole:
                origin[node] = frozenset([node.params["index"]])
            elif node.op in _KEEP and whole:
                origin[node] = frozenset().union(*sources)
    return found


def _is_whole(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.integer)


def _uses(node: Node, position: int) -> Iterator[WholeNumbers]:
    """What an operation says of its operand at `position`."""
    shapes = [tuple(arg.avals[which].shape) for arg, which in node.args]
    if node.op in ("gather", "scatter", "scatter-add", "scatter_add") and position == 1:
        numbers = node.params["dimension_numbers"]
        axes = getattr(numbers, "start_index_map", None)
        axes = numbers.scatter_dims_to_operand_dims if axes is None else axes
        yield from (WholeNumbers(below=shapes[0][axis]) for axis in axes)
    if node.op in ("dynamic_slice", "dynamic_update_slice"):
        first = 1 if node.op == "dynamic_slice" else 2
        if position >= first:
            axis = position - first
            sizes = node.params["slice_sizes"] if first == 1 else shapes[1]
            yield WholeNumbers(below=shapes[0][axis] - sizes[axis] + 1)
    if node.op == "choose" and position == 0:
        yield WholeNumbers(below=len(node.args) - 1)
    if node.op in COMPARISONS:
        other, _ = node.args[1 - position]
        if other.op == "constant" and constant_value(other).size == 1:
            yield WholeNumbers(told_apart=frozenset([int(constant_value(other).reshape(-1)[0])]))
        else:
            while other.op in ("broadcast_in_dim", "reshape"):
                other, _ = other.args[0]
            if other.op == "iota":
                yield WholeNumbers(below=max(other.avals[0].shape))
