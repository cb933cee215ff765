"""Whether the two programs are the same, operation by operation, up to names."""

import dataclasses
from collections.abc import Hashable, Mapping

from shared.checks.base import Check, Ported, Program, program
from shared.checks.gradients import gradients_of
from shared.checks.outputs import pair_outputs, values_of
from shared.program.canonical import Names, upward
from shared.program.graph import Node, Value
from shared.program.unfuse import unfuse
from shared.program.view import View


def check_programs(ported: Ported) -> Check:
    """Forward and gradient: every operation, every constant, every order of operands."""
    if ported.is_cut:
        note = "one side computes with fused weights; the other checks decide"
        return Check("programs", "undecided", note=note)
    lost = pair_outputs(ported, ported.linen_program, ported.nnx_program).lost
    if lost:
        return Check("programs", "undecided", note=f"only Linen returns {', '.join(lost)}")
    if not same_program(ported, ported.linen_program, ported.nnx_program):
        return Check("programs", "undecided", note="they differ; the other checks decide")
    if not same_program(ported, *backward(ported)):
        return Check("programs", "undecided", note="the backward programs differ")
    return Check("programs", "identical")


def backward(ported: Ported) -> tuple[Program, Program]:
    """The gradient programs of Linen and of NNX."""
    linen, nnx = (
        program(gradients_of(model), model, ported.pair.inputs)
        for model in (ported.linen, ported.nnx)
    )
    if ported.is_cut:
        linen, nnx = (dataclasses.replace(p, graph=unfuse(p.graph)) for p in (linen, nnx))
    return linen, nnx


def same_program(ported: Ported, linen: Program, nnx: Program) -> bool:
    """Whether the outputs that both have are computed in the same way from the same weights."""
    names = Names()
    outputs = pair_outputs(ported, linen, nnx).pairs
    one, other = (
        _named(upward(names, p.graph, leaf_names(ported, p, side)), values_of(p, outputs, side))
        for side, p in enumerate((linen, nnx))
    )
    return None not in one.values() and one == other


def _named(
    up: Mapping[Node, int], values: Mapping[str, Value | None]
) -> dict[str, tuple[int, int] | None]:
    return {path: value and (up[value[0]], value[1]) for path, value in values.items()}


def leaf_names(ported: Ported, program: Program, side: int):
    """A function from a leaf, or a slice of one, to the number of its entry in the map."""
    numbers = {(entry.nnx if side else entry.linen): i for i, entry in enumerate(ported.entries)}

    def name(node: Node) -> Hashable:
        view = program.graph.views.get(node, View(node.params.get("path", "")))
        return numbers.get(view, (side, view))

    return name
