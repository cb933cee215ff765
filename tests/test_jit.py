"""Eager and jitted runs return the same bits; both are compiled once, but eager Linen."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import assert_identical, linen_to_nnx, random_inputs, random_variables

from linen_impl import composed as linen_composed
from nnx_impl import composed as nnx_composed
from nnx_impl import implementation as nnx_implementation
from shared.cases import CASES


def assert_same_run(case, eager, jitted):
    """The same bits, but for what the row of the case says is fused: that is close."""
    if case.fused is None:
        return assert_identical(eager, jitted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), eager, jitted)


@pytest.mark.optimized
@pytest.mark.in_turn("name")
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


@pytest.mark.optimized
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


# Cases whose lifts are made by each call, and are compiled by it where nothing around is jitted.
MADE_BY_EACH_CALL = {
    "legacy": "nnx.prefix gives the axes of a module, which there has to be first",
    "sharding": "what is traced depends on the rules of flax, which are no input of the scan",
    "bridge": "its lifts are those of Linen, whose scan is traced and compiled by each call",
}


@pytest.fixture
def compiled():
    """The names of the programs that XLA was given since the start, or since it was cleared."""
    names = []

    def listen(event, _, **of_event):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(of_event["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.quick("shared", "dropout", "tied_embedding")
def test_a_second_eager_call_of_nnx_compiles_nothing(case, compiled):
    # Shapes at which no other test calls this case, or another one that has the same lifts.
    case = dataclasses.replace(case, batch_size=7 + list(CASES).index(case.name))
    model = nnx_implementation.build(case.params_case, nnx_implementation.native_rngs(seed=0))
    inputs = random_inputs(case)
    compiled.clear()
    nnx_implementation.call(case, model, *inputs)
    assert compiled
    compiled.clear()
    nnx_implementation.call(case, model, *inputs)
    assert bool(compiled) == (case.name in MADE_BY_EACH_CALL)
