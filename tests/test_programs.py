"""Forward and gradient are lowered to the same program, up to names."""

import collections
import re

import jax
import pytest
from faults import PROGRAM_FAULTS, Faulty, caught
from helpers import linen_to_nnx, lowered_text, random_inputs, random_variables

from shared.interface import activation_of

OPERATION = re.compile(r"stablehlo\.\w+")


def assert_same_text(case, linen, nnx):
    """Equal; or, where the row of the case says so, the same operations in another order.

    Of those `verify` compares the graphs: tests/test_verify.py.
    """
    if case.reordered is None:
        assert linen == nnx
    else:
        assert linen != nnx, "the row says that they differ"
        operations = [collections.Counter(OPERATION.findall(text)) for text in (linen, nnx)]
        assert operations[0] == operations[1]


def check_same_program(linen, nnx, case):
    variables, inputs = random_variables(case), random_inputs(case)
    sides = ((linen, variables), (nnx, linen_to_nnx(case, variables)))

    def gradient(implementation):
        def loss(params, variables):
            outputs, _ = implementation.apply(case, {**variables, "params": params}, *inputs)
            return activation_of(outputs).sum()

        return jax.grad(loss)

    forward = [lowered_text(lambda v: impl.apply(case, v, *inputs), v) for impl, v in sides]  # noqa: B023
    assert_same_text(case, *forward)
    backward = [lowered_text(gradient(impl), v["params"], v) for impl, v in sides]
    assert_same_text(case, *backward)
    assert ("stablehlo.while" in forward[0]) == ("scan" in case.lifts)
    assert len(backward[0]) > len(forward[0])


def test_programs_are_the_same(linen, nnx, case):
    check_same_program(linen, nnx, case)


@pytest.mark.in_turn
@pytest.mark.parametrize("fault", PROGRAM_FAULTS)
def test_planted_fault_is_caught(fault, linen, nnx, case):
    with caught(case, fault):
        check_same_program(linen, Faulty(nnx, **PROGRAM_FAULTS[fault]), case)
