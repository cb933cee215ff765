"""What is computed once more for a gradient: no number tells it, only memory and time."""

import collections
from typing import Any

import jax
from jax.extend import core

from shared.models.pure import PureModel
from shared.models.pure_pair import PurePair
from shared.program.jax_programs import REMAT, programs_in

# How often something is rematerialised, by its policy.
Counts = collections.Counter[str]


def remark_of_remat(pair: PurePair) -> str:
    """How many parts of each model are rematerialised, where that is another number; else ""."""
    linen, nnx = (_counts(model, pair.inputs) for model in (pair.linen, pair.nnx))
    if linen == nnx:
        return ""
    return (
        f"remat: {_words(linen)} in Linen, {_words(nnx)} in NNX; the numbers are the same, the "
        f"memory and the time of a gradient are not"
    )


def _counts(model: PureModel, inputs: tuple) -> Counts:
    found: Counts = collections.Counter()
    _count(jax.make_jaxpr(model.apply)(model.leaves, inputs).jaxpr, 1, found)
    return found


def _count(program: core.Jaxpr, times: int, found: Counts) -> None:
    for equation in program.eqns:
        name = equation.primitive.name
        if name in REMAT:
            found[_policy(equation.params.get("policy"))] += times
        length = equation.params["length"] if name == "scan" else 1
        for inner in programs_in(equation.params):
            _count(inner, times * length, found)


def _policy(policy: Any) -> str:
    return "" if policy is None else getattr(policy, "__name__", type(policy).__name__)


def _words(counts: Counts) -> str:
    if not counts:
        return "nothing"
    return ", ".join(
        f"{number} {'part' if number == 1 else 'parts'}" + (f" by {policy}" if policy else "")
        for policy, number in sorted(counts.items())
    )
