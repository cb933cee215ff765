"""Traces a function to a flat graph: calls inlined, scans unrolled, dead code and no-ops dropped.

Two programs of one model differ in how they are cut into calls and in whether a stack of layers is
a scan or a loop. Flat, they are lists of the same operations on the same values. Where both sides
scan, one iteration stands for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from shared.program.control_flow import (
    choice,
    fits,
    loop,
    opened,
    rolled_scan,
    selection,
    unrolled_scan,
)
from shared.program.graph import Graph, GraphBuilder, Layer, Node, Stack, Value
from shared.program.jax_programs import CALLS, SAME_VALUE
from shared.program.source import places


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
    builder = Tracer(unroll)
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


class Tracer(GraphBuilder):
    """Makes a graph of a traced program.

    Attributes:
      unroll: whether each iteration of a scan has operations of its own.
      depth: how many loops there are around what is being traced.
    """

    def __init__(self, unroll: bool) -> None:
        super().__init__()
        self.unroll = unroll
        self.depth = 0

    def inline(
        self,
        jaxpr: core.Jaxpr,
        consts: Sequence[Any],
        args: Sequence[Value],
        stack: Stack,
        layer: Layer,
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

    def equation(self, eqn: Any, args: list[Value], outer: Stack, layer: Layer) -> Sequence[Value]:
        name, params = eqn.primitive.name, eqn.params
        stack = places(eqn.source_info) + outer
        if name in CALLS and CALLS[name] in params:
            inner, consts = opened(params[CALLS[name]])
            return self.inline(inner, consts, args, stack, layer)
        if name == "scan" and not self.unroll:
            return rolled_scan(self, eqn, args, stack, layer)
        if name == "scan" and fits(eqn):
            return unrolled_scan(self, eqn, args, stack, layer)
        if name == "while":
            return loop(self, eqn, args, stack, layer)
        if name == "cond":
            return choice(self, eqn, args, stack, layer)
        if name == "slice" and set(params["strides"] or (1,)) == {1}:
            params = {**params, "strides": None}  # two ways to write one thing
        if name == "split":
            return self.split(eqn, args[0], stack, layer)
        if name in SAME_VALUE or _is_no_op(name, params, args):
            return args[: len(eqn.outvars)]
        if name == "select_n" and (chosen := selection(self, eqn, args, stack, layer)):
            return chosen
        avals = [var.aval for var in eqn.outvars]
        if name == "convert_element_type" and args[0][0].op == "constant":
            source = args[0][0].params
            value = np.asarray(source["value"]).astype(params["new_dtype"])
            if jnp.issubdtype(params["new_dtype"], jnp.floating):
                return [self.constant(value, avals[0], source.get("exact", source["value"]))]
            return [self.constant(value, avals[0])]
        made = self.node(name, args, params, avals, stack, layer, eqn.primitive)
        return [(made, i) for i in range(len(avals))]

    def split(self, eqn: Any, value: Value, stack: Stack, layer: Layer) -> list[Value]:
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


def _is_value(const: Any) -> bool:
    return isinstance(const, tuple) and len(const) == 2 and isinstance(const[0], Node)


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
