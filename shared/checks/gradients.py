"""Gradients with respect to every weight and every floating input."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.checks.base import Check, Ported
from shared.checks.compare import compare, worst_of
from shared.checks.outputs import losses
from shared.checks.sample import has_nan
from shared.errors import first_line
from shared.models.pure import PureModel
from shared.program.view import View


class NoGradientError(Exception):
    """A model that runs cannot be differentiated: it has a `while` loop, say."""


def check_gradients(ported: Ported) -> Check:
    """Of a projection of the outputs and the losses, sample by sample, under NNX's names."""
    try:
        return _check(ported)
    except NoGradientError:
        return without_gradients(ported, "gradients")


def _check(ported: Ported) -> Check:
    linen, nnx = map(jax.jit, both_gradients(ported))
    checks = []
    nans: list[str] = []
    for sample in range(ported.samples):
        leaves, inputs = ported.random_leaves(sample), ported.inputs(sample)
        first_input, first = linen(leaves[0], inputs)
        second_input, second = nnx(leaves[1], inputs)
        moved = move_floating(ported, first)
        moved |= {f"input{i}": leaf for i, leaf in enumerate(first_input)}
        second = dict(second) | {f"input{i}": leaf for i, leaf in enumerate(second_input)}
        nans += [path for path, leaf in moved.items() if has_nan(leaf)]
        made = compare("gradients", moved, second, ported.limits, True, ported.are_narrow)
        checks.append(dataclasses.replace(made, sample=sample))
    worst = worst_of(checks)
    if nans and worst.status != "different":
        note = "Linen's gradients are not numbers on these samples"
        return Check("gradients", "undecided", worst_leaf=nans[0], note=note)
    return worst


def without_gradients(ported: Ported, name: str) -> Check:
    """The check `name` of two models of which at least one has no gradients."""
    errors: dict[str, str] = {}
    for gradients, model in zip(both_gradients(ported), (ported.linen, ported.nnx), strict=True):
        try:
            jax.eval_shape(gradients, model.leaves, ported.pair.inputs)
        except NoGradientError as error:
            errors[model.name] = str(error)
    if len(errors) == 2:
        why = "; in NNX: ".join(dict.fromkeys(errors.values()))
        why = f": {why}" if name == "gradients" else ""
        return Check(name, "equal", note=f"neither model has gradients{why}")
    ((side, error_line),) = errors.items()
    return Check(name, "different", note=f"only {side} has no gradients: {error_line}")


Gradients = Callable[[Any, Any], tuple[list[Any], dict[str, Any]]]


def both_gradients(ported: Ported) -> tuple[Gradients, Gradients]:
    """The gradients of Linen and of NNX, as functions."""
    sown = losses(ported)
    return (
        gradients_of(ported.linen, [view for view, _ in sown]),
        gradients_of(ported.nnx, [view for _, view in sown]),
    )


def gradients_of(model: PureModel, sown: Sequence[View]) -> Gradients:
    """(leaves, inputs) -> gradients of the floating ones, (of inputs, {path: of leaf}).

    Args:
      model: a model.
      sown: the losses that it returns beside its outputs.

    Raises (what is returned does):
      NoGradientError: JAX cannot differentiate the model.
    """

    def gradients(leaves, inputs):
        flat, tree = jax.tree.flatten(inputs)
        moving = {path: leaf for path, leaf in leaves.items() if is_floating(leaf)}
        floating = [leaf for leaf in flat if is_floating(leaf)]

        def projection(moving, floating):
            again = iter(floating)
            inputs = tree.unflatten([next(again) if is_floating(leaf) else leaf for leaf in flat])
            outputs, updates = model.apply({**leaves, **moving}, inputs)
            pieces = [
                view.of(updates[view.leaf]) if view.index else updates[view.leaf] for view in sown
            ]
            total = jnp.zeros(())
            for number, leaf in enumerate([*jax.tree.leaves(outputs), *pieces]):
                if not is_floating(leaf):
                    continue
                if jnp.iscomplexobj(leaf):
                    total += jnp.vdot(_weights(leaf, number + 1), leaf.imag.astype(jnp.float32))
                total += jnp.vdot(_weights(leaf, number), leaf.real.astype(jnp.float32))
            return total

        try:
            of_leaves, of_inputs = jax.grad(projection, argnums=(0, 1))(moving, floating)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise NoGradientError(first_line(error).split(". ")[0]) from error
        return of_inputs, of_leaves

    return gradients


def move_floating(ported: Ported, leaves: dict[str, Any]) -> dict[str, Any]:
    """Linen's gradients under NNX's names."""
    every = {
        path: leaves.get(path, np.zeros(spec.shape, spec.dtype))
        for path, spec in ported.linen.leaves.items()
    }
    moved = ported.weights.move(every, to="nnx")
    return {path: leaf for path, leaf in moved.items() if is_floating(ported.nnx.leaves[path])}


def _weights(leaf: Any, number: int) -> jax.Array:
    """A weight of its own for every number that is returned, so that each has its own say."""
    return jnp.sin(1 + number + jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape)


def is_floating(leaf: Any) -> bool:
    """Whether gradients go to `leaf`."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
