"""Whether the two programs are the same, operation by operation, up to names."""

import dataclasses
from collections.abc import Hashable

from shared.checks.base import Check, Ported, Program, program
from shared.checks.gradients import gradients_of
from shared.program.canonical import Names, upward
from shared.program.graph import Node
from shared.program.unfuse import unfuse
from shared.program.view import View


def check_programs(ported: Ported) -> Check:
    """Forward and gradient: every operation, every constant, every order of operands."""
    if ported.is_cut:
        note = "one side computes with fused weights; the other checks decide"
        return Check("programs", "undecided", note=note)
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
    one, other = _outputs(names, ported, linen, 0), _outputs(names, ported, nnx, 1)
    # NNX also returns what a call leaves alone, and a sown value may be on one side only.
    sown = one.keys() - other.keys() - ported.linen.leaves.keys()
    sown = {path for path in sown if not path.startswith(("output", "input"))}
    return all(other.get(path) == value for path, value in one.items() if path not in sown)


def _outputs(
    names: Names, ported: Ported, program: Program, side: int
) -> dict[str, tuple[int, int]]:
    """{Linen's path of an output: the name of its value}."""
    up = upward(names, program.graph, leaf_names(ported, program, side))
    renamed = ported.linen_name if side else {}
    return {
        renamed.get(path, path): (up[node], which)
        for path, (node, which) in zip(program.outputs, program.graph.outputs, strict=True)
    }


def leaf_names(ported: Ported, program: Program, side: int):
    """A function from a leaf, or a slice of one, to the number of its entry in the map."""
    numbers = {(entry.nnx if side else entry.linen): i for i, entry in enumerate(ported.entries)}

    def name(node: Node) -> Hashable:
        view = program.graph.views.get(node, View(node.params.get("path", "")))
        return numbers.get(view, (side, view))

    return name
