"""On matched weights the gradients with respect to params and input are the same bits."""

import jax
import pytest
from faults import FORWARD_FAULTS, GRADIENT_FAULTS, Faulty
from helpers import assert_identical, linen_to_nnx, nnx_to_linen, random_batch, random_variables


def gradients(implementation, case, variables, x):
    """Of a random projection of the activation: every output has its own weight."""
    cotangent = random_batch(case, seed=9)
    _, pull = jax.vjp(lambda v, x: implementation.apply(case, v, x), variables, x)
    return pull(cotangent)


def check_gradients_equal(linen, nnx, case):
    variables, x = random_variables(case), random_batch(case)
    params_a, input_a = gradients(linen, case, variables, x)
    params_b, input_b = gradients(nnx, case, linen_to_nnx(case, variables), x)
    assert_identical(params_a, nnx_to_linen(case, params_b), "params")
    assert_identical(input_a, input_b, "input")


def test_gradients_are_equal(linen, nnx, case):
    check_gradients_equal(linen, nnx, case)


FAULTS = GRADIENT_FAULTS | {
    name: FORWARD_FAULTS[name]
    for name in ("transposed square kernel", "layers swapped", "dropped bias", "residual left in")
}


@pytest.mark.in_turn
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(fault, linen, nnx, case):
    with pytest.raises(AssertionError, match="not bitwise equal"):
        check_gradients_equal(linen, Faulty(nnx, **FAULTS[fault]), case)
