"""Outputs, and what the call leaves in the other collections, on random weights and inputs."""

import dataclasses

import jax
import numpy as np

from shared.checks.base import Check, Ported, compare, named_outputs, worst_of


def check_forward(ported: Ported) -> Check:
    """The outputs of both models, sample by sample."""
    return _check(ported, "forward", lambda linen, nnx: (linen[0], nnx[0]))


def check_updates(ported: Ported) -> Check:
    """Batch statistics, caches and the like after the call, under Linen's names.

    What only one side returns, a sown value say, is named in the note: it is not compared.
    """
    names = ported.linen_name
    one, other = (
        {path for path in program.outputs if not path.startswith("output")}
        for program in (ported.linen_program, ported.nnx_program)
    )
    other = {names.get(path, path) for path in other}

    def updates(linen, nnx):
        after = {names.get(path, path): leaf for path, leaf in nnx[1].items()}
        both = sorted(one & other)
        return {path: linen[1][path] for path in both}, {path: after[path] for path in both}

    made = _check(ported, "updates", updates)
    if one == other:
        return made
    left = ", ".join(sorted(one ^ other))
    return dataclasses.replace(made, note=f"not compared, for only one side has it: {left}")


def _check(ported, name, pick) -> Check:
    checks = []
    linen_apply, nnx_apply = jax.jit(ported.linen.apply), jax.jit(ported.nnx.apply)
    finite = True
    for sample in range(ported.samples):
        leaves, inputs = ported.random_leaves(sample), ported.inputs(sample)
        linen, nnx = linen_apply(leaves[0], inputs), nnx_apply(leaves[1], inputs)
        one, other = pick(linen, nnx)
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
