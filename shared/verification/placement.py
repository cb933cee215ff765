"""Which weight is which by what their values do, where programs and names do not tell.

Give all weights of one shape the same numbers: then it does not matter which is which, and two
equal models return the same. What still differs is the gradient of each, for each has its own place
in the model.
"""

import collections
import dataclasses

import jax.numpy as jnp
import numpy as np

from shared.models.gradients import NoGradientError
from shared.report.result import Check
from shared.verification.checks.compare import compare
from shared.verification.checks.forward import check_forward
from shared.verification.limits import Limits
from shared.verification.ported import Ported
from shared.verification.programs import named_outputs
from shared.verification.runs import gradients_of_both, results_by_operation, results_of_both
from shared.verification.sample import copy_weights
from shared.weights.entry import Entry

# Relative to the size of a value: rounding stays far below, another weight makes far more. The
# checks decide with their own limits on what is found here.
NEAR = 1e-3
NEAR_IN_HALF_PRECISION = 3e-2


def place_by_values(ported: Ported) -> tuple[Entry, ...] | None:
    """Another map with which the models are equal; None if there is none or it is the same.

    Only pairs that names or their order have decided are in question.
    """
    groups = _in_question(ported)
    if not groups:
        return None
    near = NEAR_IN_HALF_PRECISION if ported.is_narrow else NEAR
    ported = dataclasses.replace(ported, limits=Limits(rtol=near))
    leaves, inputs = _leaves(ported, groups), ported.inputs(0)
    # Most ports that come here differ, and what is near is far from the bits that XLA would give.
    is_by_operation = ported.is_short and not ported.is_narrow
    run = results_by_operation if is_by_operation else results_of_both
    one, other = (named_outputs(outputs) for outputs, _ in run(ported, leaves, inputs))
    if one.keys() != other.keys():
        return None
    if not _passes(compare("forward", one, other, ported.limits)):
        return None
    try:
        linen, nnx = (of_leaves for _, (_, of_leaves) in gradients_of_both(ported, leaves, inputs))
    except NoGradientError:
        return None
    entries = list(ported.entries)
    for group in groups:
        mine = [_piece(linen, entries[i].linen) for i in group]
        theirs = [_piece(nnx, entries[i].nnx) for i in group]
        targets = [entries[i].nnx for i in group]
        for i, j in zip(group, _nearest(mine, theirs, near), strict=True):
            if entries[i].nnx != targets[j]:
                entries[i] = dataclasses.replace(entries[i], nnx=targets[j], by="values")
    if tuple(entries) == ported.entries:
        return None
    placed = dataclasses.replace(ported, entries=tuple(entries))
    return placed.entries if _passes(check_forward(placed)) else None


def _passes(check: Check) -> bool:
    return check.status in ("equal", "close")


def _in_question(ported: Ported) -> list[list[int]]:
    """Numbers of entries whose weights could be exchanged, those of one form together."""
    groups = collections.defaultdict(list)
    for i, entry in enumerate(ported.entries):
        leaf = ported.linen.leaves[entry.linen.leaf]
        if jnp.issubdtype(leaf.dtype, jnp.floating) and entry.by not in ("user", "dataflow"):
            kind = entry.linen.leaf.split("/")[0], entry.nnx.leaf.split("/")[0]
            groups[kind, entry.linen.shape_in(leaf.shape), str(leaf.dtype)].append(i)
    return [group for group in groups.values() if len(group) > 1]


def _leaves(ported: Ported, groups: list[list[int]]) -> tuple[dict, dict]:
    """Random leaves of both sides, the same in all weights of a group."""
    linen, nnx = ported.random_leaves(0)
    for group in groups:
        first, *others = (ported.entries[i].linen for i in group)
        for view in others:
            view.put(linen[view.leaf], _piece(linen, first))
    copy_weights(ported.entries, linen, nnx)
    return linen, nnx


def _piece(leaves, view):
    return view.of(np.asarray(leaves[view.leaf]))


def _nearest(mine: list[np.ndarray], theirs: list[np.ndarray], limit: float) -> list[int]:
    """For each of `mine` the number of the one of `theirs` that it is; its own where in doubt."""
    size = max(float(np.abs(x).max(initial=0)) for x in mine)
    free = list(range(len(theirs)))
    found = []
    for i, x in enumerate(mine):
        gaps = {j: float(np.abs(x - theirs[j]).max(initial=0)) for j in free}
        near = [j for j in free if gaps[j] <= limit * size]
        if not near:
            return list(range(len(mine)))
        found.append(i if i in near else min(near, key=gaps.__getitem__))
        free.remove(found[-1])
    return found
