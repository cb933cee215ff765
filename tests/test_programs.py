"""Forward and gradient are lowered to the same program, up to names."""

import jax
import pytest
from faults import PROGRAM_FAULTS, Faulty
from helpers import linen_to_nnx, lowered_text, random_batch, random_variables


def check_same_program(linen, nnx, case):
    variables, x = random_variables(case), random_batch(case)
    args = ((linen, (variables, x)), (nnx, (linen_to_nnx(case, variables), x)))

    def gradient(implementation):
        return jax.grad(lambda v, x: implementation.apply(case, v, x).sum(), argnums=(0, 1))

    forward = [lowered_text(lambda v, x: impl.apply(case, v, x), *a) for impl, a in args]  # noqa: B023
    assert forward[0] == forward[1]
    backward = [lowered_text(gradient(impl), *a) for impl, a in args]
    assert backward[0] == backward[1]
    assert "stablehlo.while" in forward[0]
    assert len(backward[0]) > len(forward[0])


def test_programs_are_the_same(linen, nnx, case):
    check_same_program(linen, nnx, case)


@pytest.mark.in_turn
@pytest.mark.parametrize("fault", PROGRAM_FAULTS)
def test_planted_fault_is_caught(fault, linen, nnx, case):
    with pytest.raises(AssertionError):
        check_same_program(linen, Faulty(nnx, **PROGRAM_FAULTS[fault]), case)
