"""NNX gives Linen's bits in all four combinations of its two graph flags."""

import importlib
import sys

import flax
import jax
import pytest
from flax import nnx as flax_nnx
from helpers import (
    assert_identical,
    gradients,
    linen_to_nnx,
    nnx_to_linen,
    random_batch,
    random_inputs,
    random_variables,
    run,
)

import linen_impl
import nnx_impl
from shared.cases import CASES


@pytest.fixture(params=[(g, u) for g in (True, False) for u in (True, False)], ids=str)
def mode(request, monkeypatch):
    # A lift is made when its file is imported, and keeps what it traced: each mode has its own.
    for pattern in {case.pattern for case in CASES.values()} | {"block"}:
        module = importlib.import_module(f"nnx_impl.{pattern}")
        monkeypatch.setattr(nnx_impl, pattern, module)
        monkeypatch.delitem(sys.modules, module.__name__)
    names = ("nnx_graph_mode", "nnx_graph_updates")
    before = [getattr(flax.config, name) for name in names]
    for name, value in zip(names, request.param, strict=True):
        flax.config.update(name, value)
    yield request.param
    for name, value in zip(names, before, strict=True):
        flax.config.update(name, value)


def test_the_mode_takes_effect(mode):
    def map_with_state_axes():
        axes = flax_nnx.StateAxes({...: 0})
        return flax_nnx.vmap(lambda variable: variable[...], in_axes=(axes,))

    if mode == (True, True):
        map_with_state_axes()
    else:
        with pytest.raises(ValueError, match="StateAxes"):
            map_with_state_axes()


@pytest.mark.quick(
    "shared-(True, True)",
    "shared-(True, False)",
    "reversed-(False, False)",
    "ensemble-(True, False)",
    "reversed_ensemble-(False, True)",
    "identical_copies-(True, True)",
    "confused-(False, False)",
)
def test_forward_and_gradients(linen, nnx, case, mode):
    variables, inputs = random_variables(case), random_inputs(case)
    moved = linen_to_nnx(case, variables)
    expected = run(linen, case, variables, inputs)
    expected_gradients = gradients(linen, case, variables, inputs)
    for wrap in (lambda f: f, jax.jit):
        if wrap is jax.jit and case.fused:  # a jitted run has other bits, in both the same
            expected = jax.jit(lambda v: run(linen, case, v, inputs))(variables)
            expected_gradients = jax.jit(lambda v: gradients(linen, case, v, inputs))(variables)
        assert_identical(expected, wrap(lambda v: run(nnx, case, v, inputs))(moved))
        received = wrap(lambda v: gradients(nnx, case, v, inputs))(moved)
        assert_identical(expected_gradients, received)


@pytest.mark.quick("shared-(True, True)", "shared-(False, False)")
def test_init_eager_and_jitted(linen, nnx, case, mode):
    expected = linen.init(case.params_case, 4)
    assert_identical(expected, nnx_to_linen(case, nnx.init(case.params_case, 4)))
    jitted = jax.jit(lambda: nnx.init(case.params_case, 4))()
    if case.fused:  # a jitted init has other bits, in both the same
        expected = jax.jit(lambda: linen.init(case.params_case, 4))()
    assert_identical(expected, nnx_to_linen(case, jitted))


def test_the_function_of_the_exercise(mode):
    composed = importlib.import_module("nnx_impl.composed")
    x = random_batch(CASES["shared"])
    expected = linen_impl.composed_lifts_forward(2, x, 3, 8)
    assert_identical(expected, composed.composed_lifts_forward(2, x, 3, 8))
