"""Whether the two programs are the same, operation by operation, up to names."""

import dataclasses

from shared.checks.base import Check, Ported, Program, program
from shared.checks.gradients import NoGradientError, both_gradients, without_gradients
from shared.checks.outputs import pair_outputs, uniform, values_of
from shared.program.canonical import Names, upward_of_all
from shared.program.unfuse import unfuse
from shared.weights.weight_map import leaf_names


def check_programs(ported: Ported) -> Check:
    """Forward and gradient: every operation, every constant, every order of operands."""
    if ported.is_cut:
        note = "one side computes with fused weights; the other checks decide"
        return Check("programs", "undecided", note=note)
    outputs = pair_outputs(ported, ported.linen_program, ported.nnx_program)
    if outputs.lost:
        return Check("programs", "undecided", note=f"only Linen returns {', '.join(outputs.lost)}")
    if outputs.changed:
        note = f"NNX changes weights in the call: {', '.join(outputs.changed)}"
        return Check("programs", "undecided", note=note)
    if not same_program(ported, ported.linen_program, ported.nnx_program):
        return Check("programs", "undecided", note="they differ; the other checks decide")
    try:
        if not same_program(ported, *backward(ported)):
            return Check("programs", "undecided", note="the backward programs differ")
    except NoGradientError:
        only = without_gradients(ported, "programs")
        status = "identical" if only.status == "equal" else "undecided"
        return dataclasses.replace(only, status=status)
    return Check("programs", "identical")


def backward(ported: Ported) -> tuple[Program, Program]:
    """The gradient programs of Linen and of NNX."""
    linen, nnx = (
        program(gradients, model, ported.pair.inputs, ported.is_unrolled)
        for gradients, model in zip(both_gradients(ported), (ported.linen, ported.nnx), strict=True)
    )
    if ported.is_cut:
        linen, nnx = (dataclasses.replace(p, graph=unfuse(p.graph)) for p in (linen, nnx))
    return linen, nnx


def same_program(ported: Ported, linen: Program, nnx: Program) -> bool:
    """Whether the outputs that both have are computed in the same way from the same weights."""
    names = Names()
    outputs = pair_outputs(ported, linen, nnx).pairs
    programs = (linen, nnx)
    ups = upward_of_all(
        names,
        [p.graph for p in programs],
        [leaf_names(ported.entries, p.graph, p is linen) for p in programs],
    )
    named = []
    for side, (up, p) in enumerate(zip(ups, programs, strict=True)):
        values, everywhere = values_of(p, outputs, side), uniform(p)
        found = {
            name: everywhere.get(views[side].leaf, values[name]) for name, views in outputs.items()
        }
        named.append({name: value and (up[value[0]], value[1]) for name, value in found.items()})
    return None not in named[0].values() and named[0] == named[1]
