"""Outputs, and what the call leaves in the other collections, on random weights and inputs."""

import jax
import numpy as np

from shared.checks.base import Check, Ported, compare, named_outputs, worst_of


def check_forward(ported: Ported) -> Check:
    """The outputs of both models, sample by sample."""
    return _check(ported, "forward", lambda ported, linen, nnx: (linen[0], nnx[0]))


def check_updates(ported: Ported) -> Check:
    """Batch statistics, caches and the like after the call, under Linen's names."""

    def updates(ported, linen, nnx):
        names = ported.linen_name
        after = {names[path]: leaf for path, leaf in nnx[1].items() if path in names}
        both = linen[1].keys() & after.keys()
        return {path: linen[1][path] for path in both}, {path: after[path] for path in both}

    return _check(ported, "updates", updates)


def _check(ported, name, pick) -> Check:
    checks = []
    linen_apply, nnx_apply = jax.jit(ported.linen.apply), jax.jit(ported.nnx.apply)
    finite = True
    for sample in range(ported.samples):
        leaves, inputs = ported.random_leaves(sample), ported.inputs(sample)
        linen, nnx = linen_apply(leaves[0], inputs), nnx_apply(leaves[1], inputs)
        one, other = pick(ported, linen, nnx)
        if name == "forward":
            one, other = named_outputs(one), named_outputs(other)
            if one.keys() != other.keys():
                note = f"outputs {sorted(one)} in Linen, {sorted(other)} in NNX"
                return Check(name, "different", note=note)
            finite &= all(np.isfinite(np.asarray(x)).all() for x in one.values())
        checks.append(compare(name, one, other, ported.limits))
    worst = worst_of(checks)
    if not finite and worst.status != "different":
        return Check(name, "undecided", note="Linen's outputs are not finite on these samples")
    return worst
