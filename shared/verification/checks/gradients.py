"""Gradients with respect to every weight and every floating input."""

import dataclasses
from typing import Any

import jax
import numpy as np

from shared.models.gradients import Gradients, NoGradientError, gradients_of, is_floating
from shared.report.result import Check
from shared.verification.checks.compare import compare, worst_of
from shared.verification.ported import Ported
from shared.verification.runs import gradients_by_operation, gradients_of_both
from shared.verification.sample import has_nan


def check_gradients(ported: Ported) -> Check:
    """Of a projection of the outputs and the losses, sample by sample, under NNX's names."""
    try:
        return _check(ported)
    except NoGradientError:
        return without_gradients(ported, "gradients")


def _check(ported: Ported) -> Check:
    checks = []
    nans: list[str] = []
    flat = jax.tree.leaves(ported.pair.inputs)
    floating = [i for i, leaf in enumerate(flat) if is_floating(leaf)]
    names = [f"input{n}" for n, i in enumerate(floating) if i not in ported.pair.masks]
    for sample in range(ported.samples):
        leaves, inputs = ported.random_leaves(sample), ported.inputs(sample)
        (first_input, first), (second_input, second) = _gradients(ported, leaves, inputs)
        moved = move_floating(ported, first)
        moved |= dict(zip(names, first_input, strict=True))
        second = dict(second) | dict(zip(names, second_input, strict=True))
        nans += [path for path, leaf in moved.items() if has_nan(leaf)]
        made = compare("gradients", moved, second, ported.limits, True, ported.are_narrow)
        checks.append(dataclasses.replace(made, sample=sample))
    worst = worst_of(checks)
    if nans and worst.status != "different":
        note = "Linen's gradients are not numbers on these samples"
        return Check("gradients", "undecided", worst_leaf=nans[0], note=note)
    if ported.pair.masks and not worst.note:
        numbers = " and ".join(map(str, sorted(ported.pair.masks)))
        note = f"not by input {numbers}: nothing but 0 and 1 is in it"
        return dataclasses.replace(worst, note=note)
    return worst


def _gradients(ported: Ported, leaves: tuple[Any, Any], inputs: tuple) -> list[Gradients]:
    """Of both models. Of outputs that are far apart, nothing is compiled to say by how much."""
    forward = ported.made.get("forward")
    is_known = forward is not None and forward.status == "different"
    if is_known and ported.outputs_are_far_apart and all(p.is_short for p in ported.backward):
        return gradients_by_operation(ported, leaves, inputs)
    return [gradients for _, gradients in gradients_of_both(ported, leaves, inputs)]


def without_gradients(ported: Ported, name: str) -> Check:
    """The check `name` of two models of which at least one has no gradients."""
    errors: dict[str, str] = {}
    for side, model in enumerate((ported.linen, ported.nnx)):
        sown = [views[side] for views in ported.outputs.losses]
        gradients = gradients_of(model, sown, ported.pair.masks)
        try:
            jax.eval_shape(gradients, model.leaves, ported.pair.inputs)
        except NoGradientError as error:
            errors[model.name] = str(error)
    if len(errors) == 2:
        why = "; in NNX: ".join(dict.fromkeys(errors.values()))
        why = f": {why}" if name == "gradients" else ""
        return Check(name, "equal", note=f"neither model has gradients{why}")
    ((alone, error_line),) = errors.items()
    return Check(name, "different", note=f"only {alone} has no gradients: {error_line}")


def move_floating(ported: Ported, leaves: dict[str, Any]) -> dict[str, Any]:
    """Linen's gradients under NNX's names."""
    every = {
        path: leaves.get(path, np.zeros(spec.shape, spec.dtype))
        for path, spec in ported.weights.linen.items()
    }
    moved = ported.weights.move(every, to="nnx")
    return {path: leaf for path, leaf in moved.items() if is_floating(ported.nnx.leaves[path])}
