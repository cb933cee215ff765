"""A jaxpr as a flat graph: calls inlined, scans unrolled, dead code and no-ops dropped.

Two programs of one model differ in how they are cut into calls and in whether a stack of layers is
a scan or a loop. Flat, they are lists of the same operations on the same values.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from shared.program.source import Place, places

# A scan is unrolled unless that would make more operations than this.
MAX_UNROLLED = 100_000

_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "custom_lin": "jaxpr",
}
_SAME_VALUE = {"copy", "copy_p", "sharding_constraint", "optimization_barrier", "pvary"}


@dataclasses.dataclass(eq=False, slots=True)
class Node:
    """One value of a program, or several where one operation returns several.

    Attributes:
      op: the name of the operation; "leaf", "input" and "constant" for what a program starts from.
      args: (node, which of its results) of each operand.
      params: of the operation.
      avals: shape and dtype of each result.
      stack: where it was written, innermost first.
      layer: the index of each unrolled scan that it is in, outermost first.
      primitive: what computes it, None for a start and for "index".
    """

    number: int
    op: str
    args: tuple[tuple["Node", int], ...]
    params: dict[str, Any]
    avals: tuple[Any, ...]
    stack: tuple[Place, ...] = ()
    layer: tuple[int, ...] = ()
    primitive: Any = None


Value = tuple[Node, int]


@dataclasses.dataclass(frozen=True)
class View:
    """What of a leaf a node holds: `leaf[index along axis, ...]`, all of it where `index` is empty.

    Attributes:
      leaf: its path.
      index: (axis of the leaf, position) of each axis that a scan took away, in order.
    """

    leaf: str
    index: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Graph:
    """A flat program.

    Attributes:
      nodes: in the order of the program, without those that no output needs.
      outputs: the value of each output.
      views: the nodes that hold a leaf or a slice of it, in order of their first use.
    """

    nodes: list[Node]
    outputs: list[Value]
    views: dict[Node, View]


def trace(function: Callable, leaves: Mapping[str, Any], inputs: tuple) -> tuple[Graph, Any]:
    """The graph of `function(leaves, inputs)` and the abstract outputs, as a tree.

    Args:
      function: a pure function.
      leaves: {path: array or `ShapeDtypeStruct`}.
      inputs: a tree of the same.
    """
    # A new function each time: JAX would remember where an old one was called from.
    closed, shapes = jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(
        dict(leaves), inputs
    )
    builder = _Builder()
    paths = sorted(leaves)
    starts: list[Value] = [
        builder.start("leaf", var.aval, path=path)
        for path, var in zip(paths, closed.jaxpr.invars, strict=False)
    ]
    starts += [
        builder.start("input", var.aval, index=i)
        for i, var in enumerate(closed.jaxpr.invars[len(paths) :])
    ]
    outputs = builder.inline(closed.jaxpr, closed.consts, starts, (), ())
    return builder.finish(outputs), shapes


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.views: dict[Node, View] = {}
        self.by_view: dict[View, Value] = {}

    def node(self, op, args, params, avals, stack=(), layer=(), primitive=None) -> Node:
        made = Node(len(self.nodes), op, tuple(args), params, tuple(avals), stack, layer, primitive)
        self.nodes.append(made)
        return made

    def start(self, op: str, aval: Any, **params: Any) -> Value:
        made = self.node(op, (), params, (aval,))
        if op == "leaf":
            view = View(params["path"])
            self.views[made] = view
            self.by_view[view] = (made, 0)
        return made, 0

    def constant(self, value: Any, aval: Any) -> Value:
        return self.node("constant", (), {"value": value}, (aval,)), 0

    def inline(
        self,
        jaxpr: core.Jaxpr,
        consts: Sequence[Any],
        args: Sequence[Value],
        stack: tuple[Place, ...],
        layer: tuple[int, ...],
    ) -> list[Value]:
        """The values of the outputs of `jaxpr` on `args`; what it computes becomes nodes."""
        env: dict[Any, Value] = dict(zip(jaxpr.invars, args, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            # Inside of a loop a constant may be a value of the program around it.
            env[var] = const if _is_value(const) else self.constant(const, var.aval)

        def read(atom: Any) -> Value:
            if isinstance(atom, core.Literal):
                return self.constant(atom.val, atom.aval)
            return env[atom]

        for eqn in jaxpr.eqns:
            results = self.equation(eqn, [read(atom) for atom in eqn.invars], stack, layer)
            env.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(
        self, eqn: Any, args: list[Value], outer: tuple[Place, ...], layer: tuple[int, ...]
    ) -> Sequence[Value]:
        name, params = eqn.primitive.name, eqn.params
        stack = places(eqn.source_info) + outer
        if name in _INLINED and _INLINED[name] in params:
            inner, consts = _open(params[_INLINED[name]])
            return self.inline(inner, consts, args, stack, layer)
        if name == "scan" and params["length"] * _size(params["jaxpr"]) <= MAX_UNROLLED:
            return self.scan(eqn, args, stack, layer)
        if name in _SAME_VALUE or _is_no_op(name, params, args):
            return args[: len(eqn.outvars)]
        avals = [var.aval for var in eqn.outvars]
        made = self.node(name, args, params, avals, stack, layer, eqn.primitive)
        return [(made, i) for i in range(len(avals))]

    def scan(
        self, eqn: Any, args: list[Value], stack: tuple[Place, ...], layer: tuple[int, ...]
    ) -> list[Value]:
        params = eqn.params
        body, consts = _open(params["jaxpr"])
        num_consts, num_carry = params["num_consts"], params["num_carry"]
        fixed, xs = args[:num_consts], args[num_consts + num_carry :]
        carry = args[num_consts : num_consts + num_carry]
        length = params["length"]
        ys: list[list[Value]] = [[] for _ in eqn.outvars[num_carry:]]
        order = range(length)
        for i in reversed(order) if params["reverse"] else order:
            slices = [self.index(x, i, stack, layer) for x in xs]
            results = self.inline(body, consts, [*fixed, *carry, *slices], stack, (*layer, i))
            carry = results[:num_carry]
            for column, value in zip(ys, results[num_carry:], strict=True):
                column.append(value)
        stacked = []
        for var, column in zip(eqn.outvars[num_carry:], ys, strict=True):
            if params["reverse"]:
                column.reverse()
            made = self.node("stack", column, {}, (var.aval,), stack, layer)
            stacked.append((made, 0))
        return [*carry, *stacked]

    def index(self, value: Value, i: int, stack: tuple[Place, ...], layer: tuple) -> Value:
        """`value[i]`; of a leaf, or of a leaf with one axis moved to the front, a view."""
        node, _ = value
        if node.op == "stack":
            return node.args[i]
        axis, source = 0, node
        if node.op == "transpose" and node.args[0][0] in self.views:
            first, *rest = node.params["permutation"]
            if rest == sorted(rest):
                axis, source = first, node.args[0][0]
        aval = _without_axis(value[0].avals[value[1]])
        if source not in self.views:
            return self.node("index", [value], {"i": i}, (aval,), stack, layer), 0
        view = self.views[source]
        taken = [a for a, _ in view.index]
        for a in sorted(taken):
            axis += a <= axis
        view = View(view.leaf, (*view.index, (axis, i)))
        if view not in self.by_view:
            leaf, _ = self.by_view[View(view.leaf)]
            made = self.node("view", [(leaf, 0)], {"index": view.index}, (aval,), stack, layer)
            self.by_view[view] = (made, 0)
            self.views[made] = view
        return self.by_view[view]

    def finish(self, outputs: list[Value]) -> Graph:
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


def _is_value(const: Any) -> bool:
    return isinstance(const, tuple) and len(const) == 2 and isinstance(const[0], Node)


def _open(jaxpr: Any) -> tuple[core.Jaxpr, Sequence[Any]]:
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, core.ClosedJaxpr) else (jaxpr, ())


def _size(jaxpr: Any) -> int:
    """How many operations `jaxpr` has, scans in it unrolled."""
    inner, _ = _open(jaxpr)
    total = 0
    for eqn in inner.eqns:
        name = eqn.primitive.name
        if name in _INLINED and _INLINED[name] in eqn.params:
            total += _size(eqn.params[_INLINED[name]])
        elif name == "scan":
            total += eqn.params["length"] * _size(eqn.params["jaxpr"])
        else:
            total += 1
    return total


def _without_axis(aval: Any) -> Any:
    return jax.ShapeDtypeStruct(aval.shape[1:], aval.dtype)


def _is_no_op(name: str, params: dict[str, Any], args: list[Value]) -> bool:
    """Whether the operation returns its operand as it is."""
    if not args:
        return False
    node, which = args[0]
    aval = node.avals[which]
    if name == "convert_element_type":
        return aval.dtype == params["new_dtype"]
    if name == "broadcast_in_dim":
        dimensions = tuple(params["broadcast_dimensions"])
        return tuple(params["shape"]) == aval.shape and dimensions == tuple(range(aval.ndim))
    if name == "reshape":
        return tuple(params["new_sizes"]) == aval.shape and params.get("dimensions") is None
    if name == "transpose":
        return tuple(params["permutation"]) == tuple(range(aval.ndim))
    if name == "squeeze":
        return not params["dimensions"]
    return False


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
    return any(
        node.op in ("random_bits", "threefry2x32", "rng_bit_generator") for node in graph.nodes
    )
