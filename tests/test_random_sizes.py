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
with_same_seed = st.sampled_from(sorted(n for n, case in CASES.items() if not case.other_params))
dtypes = st.sampled_from([jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])


@hypothesis.given(names, sizes, seeds, dtypes)
def test_forward_and_gradients(linen, nnx, name, sizes, seed, dtype):
    case = dataclasses.replace(CASES[name], **sizes)
    check_equal(linen, nnx, case, seed, dtype)


def check_equal(linen, nnx, case, seed, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        variables, inputs = random_variables(case, seed, dtype), random_inputs(case, seed, dtype)
        expected, updates, pull = vjp(linen, case, variables, inputs)
        moved = linen_to_nnx(case, variables)
        received, updates_nnx, pull_nnx = vjp(nnx, case, moved, inputs)
        assert activation_of(expected).dtype == dtype
        assert_identical((expected, updates), (received, updates_nnx))
        (a, b), (c, d) = pull(expected), pull_nnx(expected)
        assert_identical({"params": a}, updates_to_linen(case, {"params": c}))
        assert_identical(b, d)


@hypothesis.given(with_same_seed, sizes, seeds)
def test_init(linen, nnx, name, sizes, seed):
    case = dataclasses.replace(CASES[name], **sizes).params_case
    expected = linen.init(case, seed)
    assert_identical(expected, nnx_to_linen(case, nnx.init(case, seed)))
    kernel = np.asarray(expected["params"]["Dense_0"]["kernel"])
    assert np.isfinite(kernel).all()


@pytest.mark.quick(
    "shared-float16",
    "ensemble-bfloat16",
    "reversed-float32",
    "reversed_ensemble-float64",
    "identical_copies-bfloat16",
    "confused-float32",
)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_planted_fault_is_caught(linen, nnx, case, dtype):
    faulty = Faulty(nnx, **FORWARD_FAULTS["dropped bias"])
    with pytest.raises(AssertionError, match="not bitwise equal"):
        check_equal(linen, faulty, case, 0, dtype)
