"""What a model returns where XLA cannot run it: each operation for itself, in its own types.

A product may ask for a precision that this backend has not. That is no fault of the port.
"""

from typing import Any

import jax

from shared.program.evaluate import evaluate
from shared.verification.programs import Program, named_outputs


def results_of(
    program: Program, shapes: tuple[Any, dict[str, Any]], leaves: Any, inputs: Any
) -> tuple[Any, dict[str, Any]]:
    """(a tree, {path: array}) as the function behind `program` returns it.

    Args:
      program: a program.
      shapes: the abstract results of that function.
      leaves: {path: array}; what a call leaves as it was is taken from them.
      inputs: of the call.
    """
    values = evaluate(program.graph, leaves, jax.tree.leaves(inputs), wide=False)
    of_outputs = (values[node][which] for node, which in program.graph.outputs)
    found = dict(zip(program.outputs, of_outputs, strict=True))
    outputs = [found[name] for name in named_outputs(shapes[0])]
    updates = {path: found[path] if path in found else leaves[path] for path in shapes[1]}
    return jax.tree.unflatten(jax.tree.structure(shapes[0]), outputs), updates
