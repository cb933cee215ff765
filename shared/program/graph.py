"""A program as a flat graph: each value with the operation that makes it, in order."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from shared.program.jax_programs import RANDOM
from shared.program.source import Place
from shared.program.view import View


class Iteration(NamedTuple):
    """One of the times that the body of an unrolled scan runs.

    Attributes:
      number: which, from 0.
      place: where the scan was written, if that is known.
    """

    number: int
    place: Place | None


@dataclasses.dataclass(eq=False, slots=True)
class Node:
    """One value of a program, or several where one operation returns several.

    Attributes:
      op: the name of the operation; "leaf", "input" and "constant" for what a program starts from,
        "view" for a part of a leaf, "index" and "stack" for what a scan takes and returns.
      args: (node, which of its results) of each operand.
      params: of the operation.
      avals: shape and dtype of each result.
      stack: where it was written, innermost first.
      layer: the iteration of each unrolled scan that it is in, outermost first.
      primitive: what computes it, None where `op` is one of those above.
    """

    number: int
    op: str
    args: tuple[tuple["Node", int], ...]
    params: dict[str, Any]
    avals: tuple[Any, ...]
    stack: tuple[Place, ...] = ()
    layer: tuple[Iteration, ...] = ()
    primitive: Any = None


Value = tuple[Node, int]


@dataclasses.dataclass(frozen=True)
class Graph:
    """A flat program.

    Attributes:
      nodes: in the order of the program, without those that no output needs.
      outputs: the value of each output.
      views: the nodes that hold a leaf or a part of it, in order of their first use.
      roles: what each output is, equal for those of two programs that stand for the same.
    """

    nodes: list[Node]
    outputs: list[Value]
    views: dict[Node, View]
    roles: tuple[str, ...] = ()


class GraphBuilder:
    """Makes a graph node by node."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.views: dict[Node, View] = {}
        self._by_view: dict[View, Value] = {}

    def node(self, op, args, params, avals, stack=(), layer=(), primitive=None) -> Node:
        made = Node(len(self.nodes), op, tuple(args), params, tuple(avals), stack, layer, primitive)
        self.nodes.append(made)
        return made

    def start(self, op: str, aval: Any, **params: Any) -> Value:
        made = self.node(op, (), params, (aval,))
        if op == "leaf":
            self.views[made] = view = View(params["path"])
            self._by_view[view] = (made, 0)
        return made, 0

    def constant(self, value: Any, aval: Any) -> Value:
        return self.node("constant", (), {"value": value}, (aval,)), 0

    def view(self, view: View, aval: Any, stack: tuple[Place, ...]) -> Value:
        """The one node that holds `view`, of a leaf that has been started."""
        if view not in self._by_view:
            leaf = self._by_view[View(view.leaf)]
            made = self.node("view", [leaf], {"view": view}, (aval,), stack)
            self._by_view[view] = (made, 0)
            self.views[made] = view
        return self._by_view[view]

    def finish(self, outputs: list[Value]) -> Graph:
        """The graph of what `outputs` need."""
        needed = {node for node, _ in outputs}
        uses: dict[Node, int] = {}
        for node in reversed(self.nodes):
            if node in needed:
                for arg, _ in node.args:
                    needed.add(arg)
        for node in self.nodes:
            if node in needed and node.op != "view":
                for arg, _ in node.args:
                    uses.setdefault(arg, len(uses))
        nodes = [node for node in self.nodes if node in needed]
        for number, node in enumerate(nodes):
            node.number = number
        views = {node: view for node, view in self.views.items() if node in uses}
        for node, _ in outputs:
            if node in self.views:
                views.setdefault(node, self.views[node])
        in_order = sorted(views, key=lambda node: uses.get(node, len(uses)))
        return Graph(nodes, outputs, {node: views[node] for node in in_order})


def piece(value: Value, view: View) -> Value | None:
    """What of `value`, an output that stands for a leaf, stands for `view` of the leaf.

    None where that was not computed for itself: only what a scan stacks is known by its layers.
    """
    axes = dict(view.index)
    if view.part:
        return None
    while axes:
        node, _ = value
        if node.op == "transpose":
            order = node.params["permutation"]
            axes = {order[axis]: position for axis, position in axes.items()}
            value = node.args[0]
        elif node.op == "stack" and 0 in axes:
            value = node.args[axes.pop(0)]
            axes = {axis - 1: position for axis, position in axes.items()}
        else:
            return None
    return value


def is_start(node: Node) -> bool:
    """Whether a program starts from this value instead of computing it."""
    return node.op in ("leaf", "input", "constant", "view")


def constant_value(node: Node) -> np.ndarray:
    """The value of a constant; of a key, its data."""
    value = node.params["value"]
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(value))
    return np.asarray(value)


def draws_random_numbers(graph: Graph) -> bool:
    """Whether an output depends on random bits."""
    return any(node.op in RANDOM for node in graph.nodes)
