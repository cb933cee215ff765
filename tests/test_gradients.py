"""On matched weights the gradients with respect to params and inputs are the same bits."""

import functools

import pytest
from faults import FORWARD_FAULTS, GRADIENT_FAULTS, NO_FAULT, Faulty, Jitted, caught
from helpers import (
    assert_identical,
    each,
    gradients,
    linen_to_nnx,
    random_inputs,
    random_variables,
    small,
)

from shared.cases import CASES


@functools.cache
def of_linen(linen, case):
    """The same for each fault of the port."""
    return gradients(linen, case, random_variables(case), random_inputs(case))


def check_gradients_equal(linen, nnx, case):
    moved = linen_to_nnx(case, random_variables(case))
    assert_identical(of_linen(linen, case), gradients(nnx, case, moved, random_inputs(case)))


@pytest.mark.optimized
@pytest.mark.quick(
    "shared",
    "ensemble",
    "dropout",
    "batch_norm",
    "remat",
    "layer_inputs_reverse",
    "custom_vjp",
    "scan_axis_1",
    "tied_embedding",
    "nested",
    "mixed_precision",
)
def test_gradients_are_equal(linen, nnx, case):
    check_gradients_equal(linen, nnx, case)


FAULTS = (
    GRADIENT_FAULTS
    | NO_FAULT
    | {
        name: FORWARD_FAULTS[name]
        for name in ("transposed square kernel", "layers swapped", "dropped bias")
    }
)


WITH_GRADIENT = [case for case in CASES.values() if not case.no_gradient]


@pytest.fixture(params=each(WITH_GRADIENT))
def case_with_gradient(request):
    return small(request.param)


@pytest.mark.in_turn("fault")
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(fault, linen, nnx, case_with_gradient):
    case = case_with_gradient
    with caught(case, fault, match="not bitwise equal"):
        check_gradients_equal(Jitted(linen), Faulty(Jitted(nnx), **FAULTS[fault]), case)
