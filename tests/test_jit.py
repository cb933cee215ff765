"""Eager and jitted runs return the same bits, and a jitted one is traced once."""

import jax
import numpy as np
import pytest
from helpers import assert_identical, linen_to_nnx, random_inputs, random_variables

from linen_impl import composed as linen_composed
from nnx_impl import composed as nnx_composed


def assert_same_run(case, eager, jitted):
    """The same bits, but for what the row of the case says is fused: that is close."""
    if case.fused is None:
        return assert_identical(eager, jitted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), eager, jitted)


@pytest.mark.in_turn
@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_apply(name, case, request):
    implementation = request.getfixturevalue(name)
    variables = random_variables(case)
    if name == "nnx":
        variables = linen_to_nnx(case, variables)
    traces = []

    @jax.jit
    def apply(variables, inputs):
        traces.append(inputs)
        return implementation.apply(case, variables, *inputs)

    for seed in (0, 1):
        inputs = random_inputs(case, seed)
        assert_same_run(
            case, implementation.apply(case, variables, *inputs), apply(variables, inputs)
        )
    assert len(traces) == 1


@pytest.mark.quick("shared-linen", "shared-nnx")
@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_init(name, case, request):
    implementation = request.getfixturevalue(name)
    eager = implementation.init(case.params_case, 6)
    assert_same_run(case, eager, jax.jit(lambda: implementation.init(case.params_case, 6))())


def test_the_exercise_is_compiled_once_for_all_seeds():
    x = np.ones((4, 5), np.float32)
    for composed in (linen_composed, nnx_composed):
        composed.forward.clear_cache()
        for seed in range(3):
            composed.composed_lifts_forward(seed, x, 3, 5)
        assert composed.forward._cache_size() == 1
