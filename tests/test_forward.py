"""On matched weights both implementations return the same bits."""

import dataclasses
import functools

import numpy as np
import pytest
from faults import FORWARD_FAULTS, NO_FAULT, Faulty, Jitted, caught
from helpers import (
    assert_identical,
    linen_to_nnx,
    random_batch,
    random_inputs,
    random_variables,
    run,
)

import linen_impl
import nnx_impl
from shared.cases import CASES
from shared.interface import activation_of


@functools.cache
def of_linen(linen, case, seed):
    """The same for each fault of the port."""
    return run(linen, case, random_variables(case, seed), random_inputs(case, seed))


def check_forward_equal(linen, nnx, case, seeds=range(3)):
    for seed in seeds:
        expected = of_linen(linen, case, seed)
        assert np.any(activation_of(expected[0])), "a forward pass of zeros compares nothing"
        moved = linen_to_nnx(case, random_variables(case, seed))
        assert_identical(expected, run(nnx, case, moved, random_inputs(case, seed)))


@pytest.mark.optimized
@pytest.mark.thorough("transformer_untied", "transformer_decode")
def test_forward_is_equal(linen, nnx, case, pytestconfig):
    # Linen compiles its program at each call.
    seeds = range(3 if pytestconfig.getoption("thorough") else 1)
    check_forward_equal(linen, nnx, case, seeds)


@pytest.mark.optimized
@pytest.mark.in_turn("sizes")
@pytest.mark.parametrize("sizes", [(1, 5, 4), (3, 1, 4), (3, 5, 0), (3, 5, 1), (24, 4, 2)])
def test_forward_is_equal_at_the_edges(linen, nnx, case, sizes):
    num_layers, features, batch_size = sizes
    case = dataclasses.replace(
        case, num_layers=num_layers, features=features, batch_size=batch_size
    )
    variables, inputs = random_variables(case), random_inputs(case)
    expected = run(linen, case, variables, inputs)
    assert activation_of(expected[0]).shape == case.output_shape
    assert_identical(expected, run(nnx, case, linen_to_nnx(case, variables), inputs))


@pytest.mark.optimized
@pytest.mark.parametrize("convert", [np.asarray, "jax", "float64"])
def test_the_function_of_the_exercise(convert):
    import jax.numpy as jnp

    case = dataclasses.replace(CASES["shared"], num_layers=3, features=6, batch_size=4)
    x = random_batch(case)
    if convert == "float64":
        x = x.astype(np.float64)
    elif convert == "jax":
        x = jnp.asarray(x)
    received = [
        package.composed_lifts_forward(7, x, case.num_layers, case.features)
        for package in (linen_impl, nnx_impl)
    ]
    assert received[0].shape == (24,)
    assert np.any(received[0])
    assert_identical(*received)


FAULTS = FORWARD_FAULTS | NO_FAULT


@pytest.mark.in_turn("fault")
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(fault, linen, nnx, case):
    with caught(case, fault, match="not bitwise equal"):
        check_forward_equal(Jitted(linen), Faulty(Jitted(nnx), **FAULTS[fault]), case)
