"""What both models return on numbers, of one compiled program for each.

Where XLA cannot run a model, each operation is computed for itself, in its own types. A product may
ask for a precision that this backend has not: that is no fault of the port. So may be what is far
apart, for which nothing need be compiled.
"""

from typing import Any

import jax

from shared.models.gradients import (
    CannotRunError,
    Gradients,
    Results,
    gradients_of,
    run,
    run_forward,
)
from shared.program.evaluate import evaluate
from shared.verification.ported import Ported
from shared.verification.programs import Program, named_outputs


def results_of_both(ported: Ported, leaves: tuple[Any, Any], inputs: tuple) -> list[Results]:
    """(outputs, updates) of Linen, and of NNX.

    Where a rule for gradients has been written by hand, what is computed on the way to them may be
    something else than the outputs: unless the programs are proved the same, outputs have a
    compiled program of their own.
    """
    models = list(enumerate((ported.linen, ported.nnx)))
    if ported.can_run:
        try:
            if ported.is_proved and ported.has_gradients:
                return [results for results, _ in gradients_of_both(ported, leaves, inputs)]
            return [run_forward(model, leaves[i], inputs) for i, model in models]
        except CannotRunError as error:
            _note(ported, error)
    return results_by_operation(ported, leaves, inputs)


def results_by_operation(ported: Ported, leaves: tuple[Any, Any], inputs: tuple) -> list[Results]:
    """The same, each operation computed for itself."""
    shapes = [
        jax.eval_shape(model.apply, model.leaves, inputs) for model in (ported.linen, ported.nnx)
    ]
    return [_by_operation(ported.programs[i], shapes[i], leaves[i], inputs) for i in (0, 1)]


def gradients_of_both(
    ported: Ported, leaves: tuple[Any, Any], inputs: tuple
) -> list[tuple[Results, Gradients]]:
    """((outputs, updates), gradients) of Linen, and of NNX.

    Raises:
      NoGradientError: JAX cannot differentiate one of the models.
      CannotRunError: XLA cannot run one, and its scans are not unrolled.
    """
    models, masks = list(enumerate((ported.linen, ported.nnx))), ported.pair.masks
    if ported.can_run:
        # Bits decide where programs differ and outputs do not: elsewhere XLA may hurry.
        forward = ported.made.get("forward")
        quickly = ported.is_proved or (forward is not None and forward.status != "equal")
        try:
            return [
                run(model, ported.losses(i), leaves[i], inputs, masks, quickly)
                for i, model in models
            ]
        except CannotRunError as error:
            _note(ported, error)
    gradients = gradients_by_operation(ported, leaves, inputs)
    return list(zip(results_of_both(ported, leaves, inputs), gradients, strict=True))


def gradients_by_operation(
    ported: Ported, leaves: tuple[Any, Any], inputs: tuple
) -> list[Gradients]:
    """The gradients alone, each operation computed for itself."""
    gradients = []
    for i, model in enumerate((ported.linen, ported.nnx)):
        function = gradients_of(model, ported.losses(i), ported.pair.masks)
        shapes = jax.eval_shape(function, model.leaves, inputs)
        gradients.append(_by_operation(ported.backward[i], shapes, leaves[i], inputs))
    return gradients


def _note(ported: Ported, error: CannotRunError) -> None:
    """Notes that the models cannot be run; a scan has to be unrolled to be computed otherwise."""
    if not ported.is_unrolled:
        raise error
    ported.cannot_run.append(str(error))


def _by_operation(
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
    found = program.returned(values)
    outputs = [found[name] for name in named_outputs(shapes[0])]
    updates = {path: found[path] if path in found else leaves[path] for path in shapes[1]}
    return jax.tree.unflatten(jax.tree.structure(shapes[0]), outputs), updates
