"""Whether the two programs are the same, operation by operation, up to names."""

import dataclasses

from shared.models.gradients import NoGradientError
from shared.program.canonical import Names, value_names_of_all
from shared.report.result import Check
from shared.verification.checks.gradients import without_gradients
from shared.verification.outputs import uniform, values_of
from shared.verification.ported import Ported, timed
from shared.verification.programs import Program
from shared.weights.entry import leaf_names


def check_programs(ported: Ported) -> Check:
    """Forward and gradient: every operation, every constant, every order of operands."""
    if ported.is_cut:
        note = "one side computes with fused weights; the other checks decide"
        return Check("programs", "undecided", note=note)
    outputs = ported.outputs
    if outputs.lost:
        return Check("programs", "undecided", note=f"only Linen returns {', '.join(outputs.lost)}")
    if outputs.changed:
        note = f"NNX changes weights in the call: {', '.join(outputs.changed)}"
        return Check("programs", "undecided", note=note)
    if not same_program(ported, *ported.programs):
        return Check("programs", "undecided", note="they differ; the other checks decide")
    try:
        if not same_program(ported, *ported.backward):
            return Check("programs", "undecided", note="the backward programs differ")
    except NoGradientError:
        only = without_gradients(ported, "programs")
        status = "identical" if only.status == "equal" else "undecided"
        return dataclasses.replace(only, status=status)
    return Check("programs", "identical")


def are_the_same(ported: Ported) -> bool:
    """Whether the programs are proved the same. The check is made here and not again."""
    if "programs" not in ported.made:
        ported.made["programs"] = timed(check_programs, ported)
    return ported.made["programs"].status == "identical"


def same_program(ported: Ported, linen: Program, nnx: Program) -> bool:
    """Whether the outputs that both have are computed in the same way from the same weights."""
    names = Names()
    outputs = ported.pair_outputs(linen, nnx).pairs
    programs = (linen, nnx)
    names_of = value_names_of_all(
        names,
        [p.graph for p in programs],
        [leaf_names(ported.entries, p.graph, p is linen) for p in programs],
    )
    named = []
    for side, (name_of, p) in enumerate(zip(names_of, programs, strict=True)):
        values, everywhere = values_of(p, outputs, side), uniform(p)
        found = {
            name: everywhere.get(views[side].leaf, values[name]) for name, views in outputs.items()
        }
        named.append(
            {name: value and (name_of[value[0]], value[1]) for name, value in found.items()}
        )
    return None not in named[0].values() and named[0] == named[1]
