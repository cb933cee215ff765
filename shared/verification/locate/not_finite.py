"""Where a program first computes a number that is not finite."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.program.evaluate import Values, evaluate
from shared.program.graph import Graph, Node, is_start
from shared.program.source import users_place
from shared.report.result import Divergence, Spot
from shared.verification.locate.spot import layers_of, operation_of
from shared.verification.ported import Ported


def not_finite(ported: Ported) -> Divergence | None:
    """Where Linen's first number that is not finite comes from."""
    places = (
        _first(ported.linen_program.graph, ported.random_leaves(sample)[0], ported.inputs(sample))
        for sample in range(ported.samples)
    )
    return next((place for place in places if place), None)


def _first(graph: Graph, leaves: Mapping[str, Any], inputs: Any) -> Divergence | None:
    """The first operation of the Linen program that makes a NaN, or else an infinity, of others."""
    values = evaluate(graph, leaves, jax.tree.leaves(inputs), wide=False)
    for what, is_bad in (("NaN", np.isnan), ("infinity", np.isinf)):
        for node in graph.nodes:
            makes = not is_start(node) and _has(values, node, is_bad)
            if makes and not any(_has(values, arg, is_bad) for arg, _ in node.args):
                reason = f"the first {what} of Linen: {operation_of(node)}"
                return Divergence(reason, _spot(node, what), None)
    return None


def _spot(node: Node, what: str) -> Spot | None:
    place = users_place(node.stack)
    if place is None:
        return None
    op, layers = operation_of(node), layers_of(node)
    return Spot(place.file, place.line, place.source, op, layers, what)


def _has(values: Values, node: Node, is_bad: Callable[[Any], Any]) -> bool:
    floating = [x for x in values[node] if jnp.issubdtype(x.dtype, jnp.floating)]
    return any(bool(np.any(is_bad(np.asarray(x, np.float32)))) for x in floating)
