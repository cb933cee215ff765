"""Traces a function to a flat graph: calls inlined, scans unrolled, dead code and no-ops dropped.

Two programs of one model differ in how they are cut into calls and in whether a stack of layers is
a scan or a loop. Flat, they are lists of the same operations on the same values. Where both sides
scan, one iteration stands for all of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from shared.program import control_flow, indexing, one_way
from shared.program.graph import Graph, Value
from shared.program.traced_once import TracedOnce
from shared.program.tracer import Tracer

_HANDLERS = {**indexing.HANDLERS, **control_flow.HANDLERS, **one_way.HANDLERS}


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
    traced = function if isinstance(function, TracedOnce) else TracedOnce(function)
    closed, shapes = traced.program(dict(leaves), inputs)
    builder = Tracer(unroll, _HANDLERS)
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
