"""NNX gives Linen's bits in all four combinations of its two graph flags."""

import functools
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

# That of tests/test_jit.py: in the mode that is the default, XLA is given the same programs.
SEED = 6


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


# What is jitted has the bits of Linen that is not: XLA has its part in that.
eager_and_jitted = pytest.mark.parametrize(
    "is_jitted",
    [
        pytest.param(False, id="eager"),
        pytest.param(True, id="jitted", marks=pytest.mark.optimized),
    ],
)


@pytest.mark.quick(
    *(
        f"{each}-{how}"
        for how in ("eager", "jitted")
        for each in (
            "shared-(True, True)",
            "shared-(True, False)",
            "ensemble-(False, True)",
            "reversed-(False, False)",
        )
    )
)
@eager_and_jitted
def test_forward_and_gradients(linen, nnx, case, mode, is_jitted):
    inputs, moved = random_inputs(case), linen_to_nnx(case, random_variables(case))
    wrap = jax.jit if is_jitted else lambda f: f
    # A jitted run of some has other bits, in both the same.
    expected, expected_gradients = of_linen(linen, case, is_jitted and bool(case.fused))
    assert_identical(expected, wrap(lambda v: run(nnx, case, v, inputs))(moved))
    received = wrap(lambda v: gradients(nnx, case, v, inputs))(moved)
    assert_identical(expected_gradients, received)


@functools.cache
def of_linen(linen, case, is_jitted):
    """A run and its gradients: they have nothing to do with the mode of NNX."""
    inputs, wrap = random_inputs(case), jax.jit if is_jitted else lambda f: f
    return tuple(
        wrap(lambda v, function=function: function(linen, case, v, inputs))(random_variables(case))
        for function in (run, gradients)
    )


@pytest.mark.quick(
    *(
        f"{each}-{how}"
        for how in ("eager", "jitted")
        for each in ("shared-(True, True)", "shared-(False, False)")
    )
)
@eager_and_jitted
def test_init(linen, nnx, case, mode, is_jitted):
    wrap = jax.jit if is_jitted else lambda f: f
    expected = init_of_linen(linen, case, is_jitted and bool(case.fused))
    received = wrap(lambda: nnx.init(case.params_case, SEED))()
    assert_identical(expected, nnx_to_linen(case, received))


@functools.cache
def init_of_linen(linen, case, is_jitted):
    """It has nothing to do with the mode of NNX."""
    wrap = jax.jit if is_jitted else lambda f: f
    return wrap(lambda: linen.init(case.params_case, SEED))()


def test_the_function_of_the_exercise(mode):
    composed = importlib.import_module("nnx_impl.composed")
    x = random_batch(CASES["shared"])
    expected = linen_impl.composed_lifts_forward(2, x, 3, 8)
    assert_identical(expected, composed.composed_lifts_forward(2, x, 3, 8))
