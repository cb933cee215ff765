"""A program as a flat graph: each value with the operation that makes it, in order."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shared.program.jax_programs import FLAT
from shared.program.source import Place, Stack
from shared.program.view import View


class Iteration(NamedTuple):
    """One of the times that the body of an unrolled scan runs.

    Attributes:
      number: which, from 0.
      place: where the scan was written, if that is known.
      is_reversed: whether it runs from the last to the first.
    """

    number: int
    place: Place | None
    is_reversed: bool = False


class Turn(NamedTuple):
    """The first turn of a `while`, which a flat program has as operations of its own.

    Attributes:
      goes_on: whether the loop is entered.
      starts: the values that its carries start with.
      results: what the turn makes of them.
    """

    goes_on: "Value"
    starts: tuple["Value", ...]
    results: tuple["Value", ...]


Layer = tuple[Iteration, ...]


@dataclasses.dataclass(eq=False, slots=True)
class Node:
    """One value of a program, or several where one operation returns several.

    Attributes:
      op: the name of the operation; "leaf", "input" and "constant" for what a program starts from,
        "view" for a part of a leaf, "index" and "stack" for what a scan takes and returns. In a
        scan that is not unrolled: "carry" for a carry in any iteration, of its first value; "last"
        for that after the last; "collect" for the stack of a value of any iteration. "choose" takes
        one of several values.
      args: (node, which of its results) of each operand.
      params: of the operation.
      avals: shape and dtype of each result.
      stack: where it was written, innermost first.
      layer: the iteration of each unrolled scan that it is in, outermost first.
      primitive: what computes it, None where `op` is one of those above.
      signature: what tells it from other operations, operands aside; None until that is asked for.
      turn: of a `while`: the turn before it.
    """

    number: int
    op: str
    args: tuple[tuple["Node", int], ...]
    params: dict[str, Any]
    avals: tuple[Any, ...]
    stack: Stack = ()
    layer: Layer = ()
    primitive: Any = None
    signature: tuple | None = None
    turn: Turn | None = None

    def __repr__(self) -> str:
        """In short: the operands, and theirs, would be the whole program."""
        return f"<{self.number}: {self.op}>"


Value = tuple[Node, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A flat program.

    Attributes:
      nodes: in the order of the program, without those that no output needs.
      outputs: the value of each output.
      views: the nodes that hold a leaf or a part of it, in order of their first use.
      roles: what each output is, equal for those of two programs that stand for the same.
      feeds: {carry: its value in the next iteration} of scans that are not unrolled.
    """

    nodes: list[Node]
    outputs: list[Value]
    views: dict[Node, View]
    roles: tuple[str, ...] = ()
    feeds: Mapping[Node, Value] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """In short: a failed assertion shows it."""
        return f"<graph of {len(self.nodes)} operations>"

    @property
    def has_loops(self) -> bool:
        """Whether there are loops in it that are not unrolled."""
        return any(node.op in ("carry", "last", "collect") for node in self.nodes)

    def view_of(self, view: View) -> Node | None:
        """The node that holds `view`, or where scans are not unrolled, the view of any layer."""
        found = None
        for node, other in self.views.items():
            if other == view:
                return node
            if other.leaf == view.leaf and other.is_any_layer and other.axes == view.axes:
                found = node
        return found


def needed_for(graph: Graph, *nodes: Node) -> Graph:
    """The part of a program that computes `nodes`."""
    needed: set[Node] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node not in needed:
            needed.add(node)
            todo += [arg for arg, _ in node.args]
    return Graph([node for node in graph.nodes if node in needed], [], {})


def piece(graph: Graph, value: Value, view: View) -> Value | None:
    """What of `value`, an output that stands for a leaf, stands for `view` of the leaf.

    None where that was not computed for itself: only what a scan stacks is known by its layers.
    """
    axes = dict(view.index)
    if view.part or view.steps:
        return None
    while axes:
        node, _ = value
        if node.op == "leaf":
            index = tuple(axes.items())
            found = graph.view_of(View(node.params["path"], index))
            return (found, 0) if found else None
        if node.op == "transpose":
            order = node.params["permutation"]
            axes = {order[axis]: position for axis, position in axes.items()}
            value = node.args[0]
        elif node.op in ("stack", "collect") and 0 in axes:
            layer = axes.pop(0)
            value = node.args[layer if node.op == "stack" else 0]
            axes = {axis - 1: position for axis, position in axes.items()}
        else:
            return None
    return value


def held_by(value: Value) -> str | None:
    """The path of the leaf that `value` is, as it is or taken apart and stacked again."""
    node, _ = value
    if node.op == "leaf":
        return node.params["path"]
    if node.op == "view":
        return node.params["view"].leaf
    if node.op in ("transpose", "collect", "stop_gradient"):
        return held_by(node.args[0])
    if node.op == "stack" and all(arg.op == "view" for arg, _ in node.args):
        views = [arg.params["view"] for arg, _ in node.args]
        places = [view.index[-1][1] for view in views]
        leaves = {view.leaf for view in views}
        return leaves.pop() if len(leaves) == 1 and places == [*range(len(places))] else None
    return None


def is_start(node: Node) -> bool:
    """Whether a program starts from this value instead of computing it."""
    return node.op in ("leaf", "input", "constant", "view")


def constant_value(node: Node) -> np.ndarray:
    """The value of a constant; of a key, its data."""
    value = node.params["value"]
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(value))
    return np.asarray(value)


def depends_on_weights(graph: Graph, value: Node) -> bool:
    """Whether a value is computed of leaves, and not of inputs and constants alone."""
    seen: set[Node] = set()
    todo = [value]
    while todo:
        node = todo.pop()
        if node in graph.views or node.op == "leaf":
            return True
        todo += [arg for arg, _ in node.args if arg not in seen]
        seen.update(arg for arg, _ in node.args)
    return False


def has_gradient(graph: Graph, value: Node) -> bool:
    """Whether a value changes with weights as numbers do, not by steps as comparisons do."""
    seen = {value}
    todo = [value]
    while todo:
        node = todo.pop()
        if node in graph.views or node.op == "leaf":
            return True
        if node.op in FLAT or not jnp.issubdtype(node.avals[0].dtype, jnp.inexact):
            continue
        fresh = {arg for arg, _ in node.args} - seen
        seen |= fresh
        todo += fresh
    return False


def is_made_of_constants(value: Node) -> bool:
    """Whether a value is a constant, or one that is reshaped, repeated or cast."""
    while value.op in ("broadcast_in_dim", "reshape", "convert_element_type"):
        value = value.args[0][0]
    return value.op == "constant"
