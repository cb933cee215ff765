"""The same seed gives the same params, bit for bit, in both implementations."""

import functools

import flax
import jax
import jax.numpy as jnp
import pytest
from faults import INIT_FAULTS, NO_FAULT, Faulty, Jitted, caught
from helpers import assert_identical, nnx_to_linen

from shared import linen_keys
from shared.cases import CASES
from shared.trees import flatten


def check_same_params(linen, nnx, case, seed=0):
    expected = linen.init(case.params_case, seed)
    assert_identical(expected, nnx_to_linen(case, nnx.init(case.params_case, seed)))


@pytest.mark.in_turn("seed")
@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1])
def test_params_are_equal(linen, nnx, case, seed):
    check_same_params(linen, nnx, case, seed)


@pytest.mark.quick("reversed-rbg", "shared-unsafe_rbg")
@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_params_are_equal_with_other_key_types(linen, nnx, case, impl):
    with jax.default_prng_impl(impl):
        check_same_params(linen, nnx, case)


@pytest.mark.quick("shared")
def test_params_are_equal_without_partitionable_threefry(linen, nnx, case):
    with jax.threefry_partitionable(False):
        check_same_params(linen, nnx, case)


@pytest.mark.quick("shared")
def test_params_are_equal_with_the_rng_separator(linen, nnx, case):
    without = linen.init(case.params_case, 0)
    flax.config.update("flax_fix_rng_separator", True)
    try:
        check_same_params(linen, nnx, case)
        with pytest.raises(AssertionError):
            assert_identical(without, linen.init(case.params_case, 0))
    finally:
        flax.config.update("flax_fix_rng_separator", False)


def test_a_case_that_cannot_be_initialised_fails_in_both(linen, nnx):
    for implementation in (linen, nnx):
        with pytest.raises(ValueError, match="got axis spec None but output was batched"):
            implementation.init(CASES["confused"], 0)


def test_the_formula_alone_gives_the_kernels(linen):
    case = CASES["shared"]
    keys = jax.random.split(jax.random.key(3), case.num_layers)
    number = linen_keys.draw_number(draw=1, draws_per_trace=2, num_scans=1)
    assert number == 3
    initializer = jax.nn.initializers.lecun_normal()
    kernels = [
        initializer(linen_keys.fold_in_path(key, "Dense_0", number), (case.features,) * 2)
        for key in keys
    ]
    assert_identical(jnp.stack(kernels), linen.init(case, 3)["params"]["Dense_0"]["kernel"])


@pytest.mark.quick("shared", "confused")
def test_native_init_is_the_one_of_nnx(nnx, case):
    from flax import nnx as flax_nnx

    from nnx_impl.implementation import build

    model = build(case.params_case, flax_nnx.Rngs(params=5))
    expected = flax_nnx.to_pure_dict(flax_nnx.state(model, flax_nnx.Param))
    native = nnx.init(case.params_case, 5, init="native")
    assert_identical(expected, native["params"])
    for path, other in flatten(nnx.init(case.params_case, 5)).items():
        if path.endswith("/kernel"):
            assert not jnp.any(flatten(native)[path] == other)


def test_a_draw_that_was_not_named_is_an_error():
    from flax import nnx as flax_nnx

    from nnx_impl.rngs import linen_rngs

    rngs = linen_rngs(0, draws=("Dense_0",), num_scans=0)
    with pytest.raises(ValueError, match="draw 2, but `draws` names 1"):
        flax_nnx.Linear(3, 3, rngs=rngs)

    @flax_nnx.split_rngs(splits=2)
    @flax_nnx.vmap
    def create(rngs):
        return flax_nnx.Linear(3, 3, rngs=rngs)

    with pytest.raises(ValueError, match="draw 3, but `draws` names 2"):
        create(linen_rngs(0, draws=("Dense_0", "Dense_0"), num_scans=0))
    with pytest.raises(TypeError, match="cannot be forked"):
        linen_rngs(0, draws=(), num_scans=0).params.fork()


FAULTS = INIT_FAULTS | NO_FAULT


@pytest.mark.in_turn("fault")
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(fault, linen, nnx, case):
    expected, faulty = of_linen(Jitted(linen), case), Faulty(Jitted(nnx), **FAULTS[fault])
    with caught(case, fault, match="not bitwise equal"):
        assert_identical(expected, nnx_to_linen(case, faulty.init(case.params_case, 0)))


@functools.cache
def of_linen(linen, case):
    """The same for each fault of the port."""
    return linen.init(case.params_case, 0)
