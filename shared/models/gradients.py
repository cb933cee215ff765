"""The gradients of a pure model, and one compiled program for all that a model is run for."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from shared.errors import first_line
from shared.models.pure import PureModel
from shared.program.traced_once import Part, TracedOnce
from shared.program.view import View


class NoGradientError(Exception):
    """A model that runs cannot be differentiated: it has a `while` loop, say."""


# What JAX raises of a model that runs.
NOT_DIFFERENTIABLE = (ValueError, TypeError, NotImplementedError)


class CannotRunError(Exception):
    """XLA has no program for a model on this backend."""


Gradients = tuple[list[Any], dict[str, Any]]
Results = tuple[Any, dict[str, Any]]


def gradients_of(model: PureModel, sown: Sequence[View], masks: Collection[int] = ()) -> TracedOnce:
    """(leaves, inputs) -> gradients of the floating ones, (of inputs, {path: of leaf}).

    They are those of a projection of the outputs and of what is sown.

    Args:
      model: a model.
      sown: the losses that it returns beside its outputs.
      masks: the numbers of inputs, flat, by which no gradients are taken.

    Raises (what is returned does):
      NoGradientError: JAX cannot differentiate the model.
    """
    return Part(results_and_gradients(model, sown, masks), 1)


def results_and_gradients(
    model: PureModel, sown: Sequence[View], masks: Collection[int] = ()
) -> TracedOnce:
    """(leaves, inputs) -> (results of `model.apply`, what `gradients_of` returns). Raises as it."""
    key = tuple(sown), frozenset(masks)
    if key not in model.differentiated:
        model.differentiated[key] = TracedOnce(_results_and_gradients(model, *key))
    return model.differentiated[key]


def _results_and_gradients(
    model: PureModel, sown: Sequence[View], masks: Collection[int]
) -> Callable[[Any, Any], tuple[Results, Gradients]]:
    def both(leaves, inputs):
        flat, tree = jax.tree.flatten(inputs)
        moving = {path: leaf for path, leaf in leaves.items() if is_floating(leaf)}
        numbers = [i for i, leaf in enumerate(flat) if is_floating(leaf) and i not in masks]
        floating = [flat[i] for i in numbers]

        def projection(moving, floating):
            moved = dict(zip(numbers, floating, strict=True))
            inputs = tree.unflatten([moved.get(i, leaf) for i, leaf in enumerate(flat)])
            outputs, updates = model.apply({**leaves, **moving}, inputs)
            pieces = [
                view.of(updates[view.leaf]) if view.index else updates[view.leaf] for view in sown
            ]
            total = jnp.zeros(())
            for number, each in enumerate([*jax.tree.leaves(outputs), *pieces]):
                leaf = jnp.asarray(each)  # a number of Python's, where nothing computes it
                if not is_floating(leaf):
                    continue
                if jnp.iscomplexobj(leaf):
                    total += jnp.vdot(_weights(leaf, number + 1), leaf.imag.astype(jnp.float32))
                total += jnp.vdot(_weights(leaf, number), leaf.real.astype(jnp.float32))
            return total, (outputs, updates)

        gradient = jax.grad(projection, argnums=(0, 1), has_aux=True)
        try:
            (of_leaves, of_inputs), results = gradient(moving, floating)
        except NOT_DIFFERENTIABLE as error:
            raise NoGradientError(first_line(error).split(". ")[0]) from error
        return results, (of_inputs, of_leaves)

    return both


def run(
    model: PureModel,
    sown: Sequence[View],
    leaves: Any,
    inputs: Any,
    masks: Collection[int] = (),
    quickly: bool = False,
) -> tuple[Any, Any]:
    """(results, gradients) on numbers, of one compiled program.

    Args:
      model: a model.
      sown: the losses that it returns beside its outputs.
      leaves: {path: array}; inputs: of the call.
      masks: the inputs by which there are no gradients.
      quickly: whether it is compiled in a fraction of the time, to a program that may round
        otherwise.

    Raises:
      NoGradientError: JAX cannot differentiate the model.
      CannotRunError: this backend cannot run it.
    """
    return _run(results_and_gradients(model, sown, masks), leaves, inputs, quickly)


def run_forward(model: PureModel, leaves: Any, inputs: Any) -> Results:
    """(outputs, updates) on numbers.

    Raises:
      CannotRunError: this backend cannot run the model.
    """
    return _run(model.apply, leaves, inputs)


# For a program that runs a few times. Of XLA's two ways to emit kernels the older one, which takes
# no detour through MLIR; threads that compile parts of a program cost more than they save.
QUICK_OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


def compiled_quickly(function: Callable[..., Any]) -> Any:
    """`jax.jit` of a function, on a CPU compiled in a fraction of the time, to run longer."""
    return jax.jit(function, compiler_options=quick_options())


def quick_options() -> dict[str, Any] | None:
    """What XLA is told where it may hurry."""
    return known_options() if jax.default_backend() == "cpu" else None


@functools.cache
def known_options() -> dict[str, Any]:
    """Those of `QUICK_OPTIONS` that the XLA of this JAX has: it refuses a name it does not know."""
    return {name: value for name, value in QUICK_OPTIONS.items() if _is_known({name: value})}


def _is_known(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True


def _run(function: TracedOnce, leaves: Any, inputs: Any, quickly: bool = False) -> Any:
    """The model has been traced before: what is raised here is raised by XLA."""
    options = quick_options() if quickly else None
    try:
        return function.jitted((leaves, inputs), options)(leaves, inputs)
    except (ValueError, NotImplementedError, jax.errors.JaxRuntimeError) as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise CannotRunError(first_line(error)) from error


def _weights(leaf: Any, number: int) -> jax.Array:
    """A weight of its own for every number that is returned, so that each has its own say."""
    return jnp.sin(1 + number + jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape)


def is_floating(leaf: Any) -> bool:
    """Whether gradients go to `leaf`."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
