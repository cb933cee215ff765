"""Both implementations stay within float32 rounding of NumPy in float64."""

import contextlib
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from faults import FORWARD_FAULTS, Faulty, Jitted, caught
from helpers import each, linen_to_nnx, random_batch, random_inputs, random_variables, small

import linen_impl
import nnx_impl
from shared import oracle
from shared.cases import CASES
from shared.interface import activation_of

WITH_ORACLE = [case for case in CASES.values() if case.oracle]


@pytest.fixture(params=each(WITH_ORACLE))
def case(request):
    return small(request.param)


def check_against_oracle(case, outputs, variables, inputs):
    expected, bound = oracle.forward(case, variables, *inputs)
    activation = activation_of(outputs)
    error = np.abs(np.asarray(activation, np.float64) - expected)
    assert np.all(error <= bound), f"error {error.max():.3g}, bound there {bound.max():.3g}"


@pytest.mark.optimized
@pytest.mark.one_in(2)
def test_both_agree_with_numpy(linen, nnx, case):
    variables, inputs = random_variables(case), random_inputs(case)
    check_against_oracle(case, linen.apply(case, variables, *inputs)[0], variables, inputs)
    moved = linen_to_nnx(case, variables)
    check_against_oracle(case, nnx.apply(case, moved, *inputs)[0], variables, inputs)


@pytest.mark.optimized
def test_the_function_of_the_exercise_agrees_with_numpy(linen):
    case = dataclasses.replace(CASES["shared"], num_layers=5, features=16, batch_size=7)
    x = random_batch(case)
    variables = linen.init(case, 11)
    for package in (linen_impl, nnx_impl):
        for given in (x, jnp.asarray(x), x.astype(np.float64)):
            flat = package.composed_lifts_forward(11, given, case.num_layers, case.features)
            check_against_oracle(case, flat.reshape(case.input_shape), variables, (x,))


def test_the_bound_is_tight_enough_to_mean_something(case):
    expected, bound = oracle.forward(case, random_variables(case), *random_inputs(case))
    assert bound.max() < 1e-4 * np.abs(expected).max()


def test_one_example_by_hand():
    case = dataclasses.replace(CASES["shared"], num_layers=2, features=2, batch_size=1)
    kernel = np.array([[[1, 2], [3, 4]], [[1, 0], [0, -1]]])
    variables = {"params": {"Dense_0": {"kernel": kernel, "bias": np.array([[0, 1], [5, 0]])}}}
    activation, _ = oracle.forward(case, variables, np.array([[1, 1]]))
    # [1, 1] @ [[1, 2], [3, 4]] + [0, 1] = [4, 7]; [4, 7] @ diag(1, -1) + [5, 0] = [9, -7]
    assert activation.tolist() == [[9, 0]]


@pytest.mark.in_turn("fault")
@pytest.mark.parametrize("fault", sorted(FORWARD_FAULTS))
def test_planted_fault_is_caught(fault, linen, case):
    variables, inputs = random_variables(case), random_inputs(case)
    faulty = Faulty(Jitted(linen), **FORWARD_FAULTS[fault])
    # The statistics of the batch take the scale of a kernel out again.
    is_none = (case.oracle, fault) == ("batch_norm_stack", "lost scale")
    with contextlib.nullcontext() if is_none else caught(case, fault, match="bound there"):
        check_against_oracle(case, faulty.apply(case, variables, *inputs)[0], variables, inputs)
