"""Inlines a traced program into a flat graph, equation by equation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.extend import core

from shared.program.building import GraphBuilder
from shared.program.graph import Layer, Node, Stack, Value
from shared.program.jax_programs import CALLS, SAME_VALUE
from shared.program.source import places


class Tracer(GraphBuilder):
    """Makes a graph of a traced program.

    Attributes:
      unroll: whether each iteration of a scan has operations of its own.
      depth: how many loops there are around what is being traced.
      handlers: {primitive: what makes its results; None from it to have it as it is}.
    """

    def __init__(self, unroll: bool, handlers: Mapping[str, "Handler"]) -> None:
        super().__init__()
        self.unroll = unroll
        self.depth = 0
        self.handlers = handlers

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
        """The results of one equation."""
        name, params = eqn.primitive.name, eqn.params
        stack = places(eqn.source_info) + outer
        if name in CALLS and CALLS[name] in params:
            inner, consts = opened(params[CALLS[name]])
            return self.inline(inner, consts, args, stack, layer)
        if name in SAME_VALUE or _is_no_op(name, params, args):
            return args[: len(eqn.outvars)]
        handler = self.handlers.get(name)
        made = handler(self, eqn, args, stack, layer) if handler else None
        if made is not None:
            return made
        avals = [var.aval for var in eqn.outvars]
        node = self.node(name, args, params, avals, stack, layer, eqn.primitive)
        return [(node, i) for i in range(len(avals))]


# (tracer, equation, its operands, where it was written, its iteration) -> its results.
Handler = Callable[[Tracer, Any, list[Value], Stack, Layer], Sequence[Value] | None]


def opened(jaxpr: Any) -> tuple[core.Jaxpr, Sequence[Any]]:
    """The program in `jaxpr`, and its constants."""
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, core.ClosedJaxpr) else (jaxpr, ())


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
