"""Outputs, and what the call leaves in the other collections, on random weights and inputs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from shared.report.result import Check
from shared.verification.checks.compare import compare, worst_of
from shared.verification.ported import Ported
from shared.verification.programs import named_outputs
from shared.verification.runs import results_by_operation, results_of_both
from shared.verification.sample import has_nan


def check_forward(ported: Ported) -> Check:
    """The outputs of both models, sample by sample."""
    return _check(ported, "forward", lambda linen, nnx: (linen[0], nnx[0]))


def check_updates(ported: Ported) -> Check:
    """Batch statistics, caches and what is sown, after the call, under Linen's names.

    What only NNX returns is named in the note; so is what only Linen sows to be looked at. Anything
    else that NNX does not return, a loss say, is a difference.
    """
    outputs = ported.outputs

    def updates(linen, nnx):
        pairs = {name: views for name, views in outputs.pairs.items() if views[0].leaf in linen[1]}
        return tuple(
            {name: _take(side[1], views[i]) for name, views in pairs.items()}
            for i, side in enumerate((linen, nnx))
        )

    made = _check(ported, "updates", updates)
    if outputs.changed:
        note = f"NNX changes weights in the call: {', '.join(outputs.changed)}"
        changed = outputs.changed[0]
        return dataclasses.replace(
            made, status="different", limit=None, worst_leaf=changed, note=note
        )
    if outputs.lost:
        note = f"only Linen returns {', '.join(outputs.lost)}"
        return dataclasses.replace(
            made, status="different", limit=None, worst_leaf=outputs.lost[0], note=note
        )
    left = (*outputs.linen_only, *outputs.nnx_only)
    note = f"not compared, for only one side has it: {', '.join(left)}" if left else ""
    return dataclasses.replace(made, note=note or made.note)


def _take(leaves, view):
    return view.of(np.asarray(leaves[view.leaf]))


def _check(ported: Ported, name: str, pick: Callable[[Any, Any], tuple[Any, Any]]) -> Check:
    checks = []
    numbers = True
    for sample in range(ported.samples):
        leaves, inputs = ported.random_leaves(sample), ported.inputs(sample)
        # Nothing is compiled to say by how much outputs differ that are far apart.
        is_known = not ported.is_proved and ported.outputs_are_far_apart
        both = results_by_operation if is_known else results_of_both
        one, other = pick(*both(ported, leaves, inputs))
        if name == "forward":
            one, other = named_outputs(one), named_outputs(other)
            if one.keys() != other.keys():
                note = f"outputs {sorted(one)} in Linen, {sorted(other)} in NNX"
                return Check(name, "different", note=note)
            numbers &= not any(has_nan(x) for x in one.values())
        made = compare(name, one, other, ported.limits, narrow=ported.are_narrow)
        checks.append(dataclasses.replace(made, sample=sample))
    worst = worst_of(checks)
    if not numbers and worst.status != "different":
        return Check(name, "undecided", note="Linen's outputs are not numbers on these samples")
    return worst
