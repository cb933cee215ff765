"""The random state that a model is built with: keys and counts."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp

from shared.program.evaluate import evaluate
from shared.program.graph import needed_for
from shared.program.trace import trace
from shared.program.traced_once import TracedOnce


def random_state(start: TracedOnce, paths: Collection[str]) -> dict[str, Any]:
    """{path: value} of keys and counts, computed operation by operation: nothing is compiled.

    Args:
      start: ({}, ()) -> {path: what a model starts with}.
      paths: of these.
    """
    if not paths:
        return {}
    graph, shapes = trace(start, {}, (), unroll=True)
    outputs = dict(zip(sorted(shapes), graph.outputs, strict=True))
    wanted = {path: outputs[path] for path in paths}
    needed = needed_for(graph, *(node for node, _ in wanted.values()))
    values = evaluate(needed, {}, (), wide=False)
    # Arrays of JAX, which a model cannot count up in place.
    return {path: jnp.asarray(values[node][which]) for path, (node, which) in wanted.items()}
