"""Traces a function to a flat graph: calls inlined, scans unrolled, dead code and no-ops dropped.

Two programs of one model differ in how they are cut into calls and in whether a stack of layers is
a scan or a loop. Flat, they are lists of the same operations on the same values. Where both sides
scan, one iteration stands for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core

from shared.program.graph import Graph, GraphBuilder, Iteration, Node, Value
from shared.program.jax_programs import CALLS, SAME_VALUE
from shared.program.source import Place, places, users_place
from shared.program.view import View, any_layer

# A scan is unrolled unless that would make more operations than this.
MAX_UNROLLED = 100_000


def trace(
    function: Callable, leaves: Mapping[str, Any], inputs: tuple, unroll: bool = True
) -> tuple[Graph, Any]:
    """The graph of `function(leaves, inputs)` and the abstract outputs, as a tree.

    Args:
      function: a pure function.
      leaves: {path: array or `ShapeDtypeStruct`}.
      inputs: a tree of the same.
      unroll: whether each iteration of a scan has operations of its own; otherwise there are
        those of any iteration, once.
    """
    # A new function each time: JAX would remember where an old one was called from.
    closed, shapes = jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(
        dict(leaves), inputs
    )
    builder = _Tracer(unroll)
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


class _Tracer(GraphBuilder):
    def __init__(self, unroll: bool) -> None:
        super().__init__()
        self.unroll = unroll
        self.depth = 0

    def inline(
        self,
        jaxpr: core.Jaxpr,
        consts: Sequence[Any],
        args: Sequence[Value],
        stack: tuple[Place, ...],
        layer: tuple[Iteration, ...],
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
        self, eqn: Any, args: list[Value], outer: tuple[Place, ...], layer: tuple[Iteration, ...]
    ) -> Sequence[Value]:
        name, params = eqn.primitive.name, eqn.params
        stack = places(eqn.source_info) + outer
        if name in CALLS and CALLS[name] in params:
            inner, consts = _open(params[CALLS[name]])
            return self.inline(inner, consts, args, stack, layer)
        if name == "scan" and not self.unroll:
            return self.rolled(eqn, args, stack, layer)
        if name == "scan" and params["length"] * _size(params["jaxpr"]) <= MAX_UNROLLED:
            return self.scan(eqn, args, stack, layer)
        if name == "cond":
            return self.choose(eqn, args, stack, layer)
        if name == "while":
            return self.repeat(eqn, args, stack, layer)
        if name == "split":
            return self.split(eqn, args[0], stack, layer)
        if name in SAME_VALUE or _is_no_op(name, params, args):
            return args[: len(eqn.outvars)]
        avals = [var.aval for var in eqn.outvars]
        made = self.node(name, args, params, avals, stack, layer, eqn.primitive)
        return [(made, i) for i in range(len(avals))]

    def scan(
        self, eqn: Any, args: list[Value], stack: tuple[Place, ...], layer: tuple[Iteration, ...]
    ) -> list[Value]:
        params = eqn.params
        body, consts = _open(params["jaxpr"])
        num_consts, num_carry = params["num_consts"], params["num_carry"]
        fixed, xs = args[:num_consts], args[num_consts + num_carry :]
        carry = args[num_consts : num_consts + num_carry]
        length = params["length"]
        ys: list[list[Value]] = [[] for _ in eqn.outvars[num_carry:]]
        order = range(length)
        place = users_place(stack)
        for i in reversed(order) if params["reverse"] else order:
            slices = [self.index(x, i, stack, layer) for x in xs]
            inside = (*layer, Iteration(i, place))
            results = self.inline(body, consts, [*fixed, *carry, *slices], stack, inside)
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

    def rolled(
        self, eqn: Any, args: list[Value], stack: tuple[Place, ...], layer: tuple[Iteration, ...]
    ) -> list[Value]:
        """A scan as the operations of any one of its iterations."""
        params = eqn.params
        body, consts = _open(params["jaxpr"])
        num_consts, num_carry = params["num_consts"], params["num_carry"]
        fixed, first = args[:num_consts], args[num_consts : num_consts + num_carry]
        depth = self.depth
        scan = {"depth": depth, "length": params["length"]}
        order = {**scan, "reverse": params["reverse"]}
        slices = [
            self.index(x, any_layer(depth), stack, layer) for x in args[num_consts + num_carry :]
        ]
        carry = self.carries(first, order, stack, layer)
        self.depth = depth + 1
        results = self.inline(body, consts, [*fixed, *carry, *slices], stack, layer)
        self.depth = depth
        made = []
        for i, (var, result) in enumerate(zip(eqn.outvars, results, strict=True)):
            if i < num_carry:
                self.feeds[carry[i][0]] = result
                op, operands, about = "last", [carry[i], result], order
            else:
                op, operands, about = "collect", [result], scan
            made.append((self.node(op, operands, about, (var.aval,), stack, layer), 0))
        return made

    def choose(
        self, eqn: Any, args: list[Value], stack: tuple[Place, ...], layer: tuple[Iteration, ...]
    ) -> list[Value]:
        """A choice as the results of all branches, and the operation that takes those of one."""
        index, *operands = args
        branches = [
            self.inline(*_open(branch), operands, stack, layer) for branch in eqn.params["branches"]
        ]
        chosen: list[Value] = []
        for var, results in zip(eqn.outvars, zip(*branches, strict=True), strict=True):
            if all(result == results[0] for result in results):
                chosen.append(results[0])
            else:
                made = self.node("choose", [index, *results], {}, (var.aval,), stack, layer)
                chosen.append((made, 0))
        return chosen

    def repeat(
        self, eqn: Any, args: list[Value], stack: tuple[Place, ...], layer: tuple[Iteration, ...]
    ) -> list[Value]:
        """A `while` as the operations of any one of its iterations; unrolled, of the first one.

        That one is followed by the loop over the others, which shows nothing of its body.
        """
        params, avals = eqn.params, [var.aval for var in eqn.outvars]
        num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
        fixed, first = args[: num_cond + num_body], args[num_cond + num_body :]
        carry = first if self.unroll else self.carries(first, {"while": True}, stack, layer)
        test = [*fixed[:num_cond], *carry]
        (goes_on,) = self.inline(*_open(params["cond_jaxpr"]), test, stack, layer)
        turn = [*fixed[num_cond:], *carry]
        results = self.inline(*_open(params["body_jaxpr"]), turn, stack, layer)
        if self.unroll:
            others = self.node(
                "while", [*fixed, *results], params, avals, stack, layer, eqn.primitive
            )
            return [
                (self.node("choose", [goes_on, value, (others, i)], {}, (aval,), stack, layer), 0)
                for i, (value, aval) in enumerate(zip(first, avals, strict=True))
            ]
        self.feeds.update((node, value) for (node, _), value in zip(carry, results, strict=True))
        return [
            (self.node("last", [*both, goes_on], {}, (aval,), stack, layer), 0)
            for aval, *both in zip(avals, carry, results, strict=True)
        ]

    def carries(
        self, first: Sequence[Value], order: dict, stack: tuple[Place, ...], layer: tuple
    ) -> list[Value]:
        """The carries of a loop in any iteration, of their first values."""
        return [
            (self.node("carry", [value], order, (value[0].avals[value[1]],), stack, layer), 0)
            for value in first
        ]

    def split(
        self, eqn: Any, value: Value, stack: tuple[Place, ...], layer: tuple[Iteration, ...]
    ) -> list[Value]:
        """The parts of a split as slices: there are two ways to write one thing."""
        axis, shape = eqn.params["axis"], eqn.invars[0].aval.shape
        parts: list[Value] = []
        start = 0
        for var in eqn.outvars:
            starts, limits = [0] * len(shape), list(shape)
            starts[axis], limits[axis] = start, start + var.aval.shape[axis]
            start = limits[axis]
            params = {
                "start_indices": tuple(starts),
                "limit_indices": tuple(limits),
                "strides": None,
            }
            made = self.node("slice", [value], params, (var.aval,), stack, layer, lax.slice_p)
            parts.append((made, 0))
        return parts

    def index(self, value: Value, i: int, stack: tuple[Place, ...], layer: tuple) -> Value:
        """`value[i]`; of a leaf, or of a leaf with one axis moved to the front, a view."""
        node, which = value
        if node.op == "stack":
            return node.args[i]
        if node.op == "collect" and i == any_layer(node.params["depth"]):
            return node.args[0]
        axis, source = 0, node
        if node.op == "transpose" and node.args[0][0] in self.views:
            first, *rest = node.params["permutation"]
            if rest == sorted(rest):
                axis, source = first, node.args[0][0]
        aval = jax.ShapeDtypeStruct(node.avals[which].shape[1:], node.avals[which].dtype)
        if source not in self.views:
            return self.node("index", [value], {"i": i}, (aval,), stack, layer), 0
        view = self.views[source]
        return self.view(View(view.leaf, (*view.index, (view.axis(axis), i))), aval, stack)


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
        if name in CALLS and CALLS[name] in eqn.params:
            total += _size(eqn.params[CALLS[name]])
        elif name == "scan":
            total += eqn.params["length"] * _size(eqn.params["jaxpr"])
        elif name == "cond":
            total += sum(map(_size, eqn.params["branches"]))
        else:
            total += 1
    return total


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
