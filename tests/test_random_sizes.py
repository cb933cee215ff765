"""Init and forward are equal at sizes, seeds and dtypes that nobody chose."""

import dataclasses

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from faults import FORWARD_FAULTS, Faulty
from helpers import (
    assert_identical,
    linen_to_nnx,
    nnx_to_linen,
    random_inputs,
    random_variables,
    run,
    small,
    updates_to_linen,
    vjp,
)
from hypothesis import strategies as st

from shared.cases import CASES
from shared.interface import activation_of

sizes = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 6),
        "features": st.integers(1, 9),
        "batch_size": st.integers(0, 6),
    }
)
seeds = st.integers(0, 2**32 - 1)
names = st.sampled_from(sorted(CASES))
# Every dtype that a case computes in.
names_and_dtypes = st.sampled_from(
    [(name, jnp.dtype(dtype)) for name in sorted(CASES) for dtype in CASES[name].dtypes]
)


@pytest.mark.optimized
@hypothesis.given(names_and_dtypes, sizes, seeds)
def test_forward_and_gradients(linen, nnx, name_and_dtype, sizes, seed):
    name, dtype = name_and_dtype
    case = dataclasses.replace(CASES[name], **sizes)
    check_equal(linen, nnx, case, seed, dtype)


def check_equal(linen, nnx, case, seed, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        variables, inputs = random_variables(case, seed, dtype), random_inputs(case, seed, dtype)
        if case.no_gradient:
            expected, updates = run(linen, case, variables, inputs)
            assert activation_of(expected).dtype == dtype
            received = run(nnx, case, linen_to_nnx(case, variables), inputs)
            return assert_identical((expected, updates), received)
        expected, updates, pull = vjp(linen, case, variables, inputs)
        moved = linen_to_nnx(case, variables)
        received, updates_nnx, pull_nnx = vjp(nnx, case, moved, inputs)
        assert activation_of(expected).dtype == dtype
        assert_identical((expected, updates), (received, updates_nnx))
        (a, b), (c, d) = pull(expected), pull_nnx(expected)
        assert_identical({"params": a}, updates_to_linen(case, {"params": c}))
        assert_identical(b, d)


@pytest.mark.optimized
@hypothesis.given(names, sizes, seeds)
def test_init(linen, nnx, name, sizes, seed):
    case = dataclasses.replace(CASES[name], **sizes).params_case
    expected = linen.init(case, seed)
    assert_identical(expected, nnx_to_linen(case, nnx.init(case, seed)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(expected))


@pytest.mark.quick(
    "shared-float16",
    "ensemble-bfloat16",
    "reversed-float32",
    "reversed_ensemble-float64",
    "identical_copies-bfloat16",
    "confused-float32",
)
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        # With the other tests of its case: the weights are found once.
        pytest.param(
            small(case),
            jnp.dtype(dtype),
            id=f"{case.name}-{dtype}",
            marks=pytest.mark.xdist_group(case.name),
        )
        for case in CASES.values()
        for dtype in case.dtypes
    ],
)
def test_planted_fault_is_caught(linen, nnx, case, dtype):
    faulty = Faulty(nnx, **FORWARD_FAULTS["dropped bias"])
    with pytest.raises(AssertionError, match="not bitwise equal"):
        check_equal(linen, faulty, case, 0, dtype)


NARROW = {name: case for name, case in CASES.items() if case.dtypes == ("float32",)}


@pytest.mark.optimized
@pytest.mark.thorough("transformer", "transformer_decode", "transformer_untied")
@pytest.mark.parametrize("name", NARROW)
def test_what_is_only_float32_is_not_the_same_in_half_precision(linen, nnx, name):
    with pytest.raises((AssertionError, TypeError)):
        check_equal(linen, nnx, small(NARROW[name]), 0, jnp.float16)
