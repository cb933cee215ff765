"""Forward and gradient are lowered to the same program, up to names."""

import functools

import jax
import pytest
from faults import PROGRAM_FAULTS, Faulty, caught
from helpers import linen_to_nnx, lowered_text, random_inputs, random_variables, run

from shared import verify
from shared.interface import activation_of
from shared.models.pure_pair import pure_case


def texts_of(implementation, case, move=lambda variables: variables):
    """Of the forward program, and of its gradient if it has one."""
    variables, inputs = random_variables(case), random_inputs(case)

    def forward(v):
        return run(implementation, case, move(v), inputs)

    def loss(params, v):
        return activation_of(forward({**v, "params": params})[0]).sum()

    texts = [lowered_text(forward, variables)]
    if not case.no_gradient:
        texts.append(lowered_text(jax.grad(loss), variables["params"], variables))
    return texts


@functools.cache
def texts_of_linen(linen, case):
    """The same for each fault of the port."""
    return texts_of(linen, case)


def check_same_program(linen, nnx, case):
    """As texts; where these differ, as `verify` compares."""
    expected = texts_of_linen(linen, case)
    received = texts_of(nnx, case, functools.partial(linen_to_nnx, case))
    assert ("stablehlo.while" in expected[0]) == ("scan" in case.lifts)
    assert all(len(text) > len(expected[0]) for text in expected[1:])
    assert (expected[0] != received[0]) == bool(case.other_text)
    if not case.other_text:
        assert expected == received
    else:
        pair = pure_case(case, {"linen": linen, "nnx": nnx}.__getitem__)
        assert verify(pair, ["programs"]).verdict == "identical"


@pytest.mark.quick(
    "shared",
    "reversed",
    "reversed_ensemble",
    "confused",
    "auxiliary",
    "remat_dots",
    "layer_inputs",
    "control_flow",
    "layer_list",
    "sharding",
    "bridge",
)
def test_programs_are_the_same(linen, nnx, case):
    check_same_program(linen, nnx, case)


@pytest.mark.in_turn("fault")
@pytest.mark.parametrize("fault", PROGRAM_FAULTS)
def test_planted_fault_is_caught(fault, linen, nnx, case):
    with caught(case, fault):
        check_same_program(linen, Faulty(nnx, **PROGRAM_FAULTS[fault]), case)
