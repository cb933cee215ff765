"""Forward and gradient are lowered to the same program, up to names."""

import jax
import pytest
from faults import PROGRAM_FAULTS, Faulty, caught
from helpers import linen_to_nnx, lowered_text, random_inputs, random_variables, run

from shared import verify
from shared.interface import activation_of
from shared.models.pair import pure_case


def check_same_program(linen, nnx, case):
    """As texts; where these differ, as `verify` compares."""
    variables, inputs = random_variables(case), random_inputs(case)

    def forward(v):
        return run(linen, case, v, inputs)

    def forward_nnx(v):
        return run(nnx, case, linen_to_nnx(case, v), inputs)

    def gradient(forward):
        def loss(params, v):
            return activation_of(forward({**v, "params": params})[0]).sum()

        return jax.grad(loss)

    texts = [lowered_text(each, variables) for each in (forward, forward_nnx)]
    backward = [
        lowered_text(gradient(each), variables["params"], variables)
        for each in (forward, forward_nnx)
        if not case.no_gradient
    ]
    assert ("stablehlo.while" in texts[0]) == ("scan" in case.lifts)
    assert all(len(text) > len(texts[0]) for text in backward)
    assert (texts[0] != texts[1]) == bool(case.other_text)
    if not case.other_text:
        assert len(set(backward)) == (0 if case.no_gradient else 1)
    else:
        pair = pure_case(case, {"linen": linen, "nnx": nnx}.__getitem__)
        assert verify(pair, ["programs"]).verdict == "identical"


def test_programs_are_the_same(linen, nnx, case):
    check_same_program(linen, nnx, case)


@pytest.mark.in_turn("fault")
@pytest.mark.parametrize("fault", PROGRAM_FAULTS)
def test_planted_fault_is_caught(fault, linen, nnx, case):
    with caught(case, fault):
        check_same_program(linen, Faulty(nnx, **PROGRAM_FAULTS[fault]), case)
