"""Each pitfall of the exercise shows what the documents say it shows, in both implementations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from helpers import assert_identical, linen_to_nnx, random_batch, random_variables

import linen_impl
import nnx_impl
from linen_impl import composed as linen_composed
from linen_impl.block import Block as LinenBlock
from nnx_impl import composed as nnx_composed
from nnx_impl.block import Block as NnxBlock
from shared.cases import CASES
from shared.errors import InputError
from shared.trees import flatten


def sized(name):
    return dataclasses.replace(CASES[name], num_layers=3, features=5, batch_size=4)


def kernel_of(variables):
    return next(leaf for path, leaf in flatten(variables).items() if path.endswith("kernel"))


def test_split_but_not_mapped_fails_at_init_and_applies_as_shared(linen, nnx):
    confused, shared = sized("confused"), sized("shared")
    variables, x = random_variables(shared), random_batch(shared)
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(shared, variables))):
        with pytest.raises(ValueError, match="axis spec None but output was batched on axis 1"):
            implementation.init(confused, 0)
        expected = implementation.apply(shared, moved, x)
        assert_identical(expected, implementation.apply(confused, moved, x))


def test_mapped_but_not_split_makes_equal_members(linen, nnx):
    for implementation in (linen, nnx):
        copies = kernel_of(implementation.init(sized("identical_copies"), 0))
        assert np.all(copies == copies[:1])
        own = kernel_of(implementation.init(sized("ensemble"), 0))
        assert not np.any(own[0] == own[1])


def test_copies_are_trained_apart(linen, nnx):
    case = sized("identical_copies")
    x = random_batch(case)
    for implementation in (linen, nnx):
        loss = lambda v, run=implementation.apply: run(case, v, x)[0].sum()  # noqa: E731
        gradient = kernel_of(jax.grad(loss)(implementation.init(case, 2)))
        assert np.any(gradient[0] != gradient[1])


def test_a_scan_without_split_makes_equal_layers_and_says_nothing():
    scan = flax_linen.scan(
        LinenBlock, variable_axes={"params": 0}, split_rngs={"params": False}, length=3
    )
    kernel = kernel_of(scan(features=5).init(jax.random.key(0), jnp.zeros(5), None))
    assert np.all(kernel == kernel[:1])

    init = flax_nnx.vmap(lambda rngs: NnxBlock(5, rngs=rngs), in_axes=None, axis_size=3)
    kernel = init(flax_nnx.Rngs(0)).dense.kernel[...]
    assert np.all(kernel == kernel[:1])


def test_the_batch_size_is_part_of_an_ensemble(linen, nnx):
    case = sized("ensemble")
    variables, x = random_variables(case), random_batch(dataclasses.replace(case, batch_size=6))
    with pytest.raises(ValueError, match=r"\b4\b"):
        linen.apply(case, variables, x)
    with pytest.raises(ValueError, match="inconsistent sizes"):
        nnx.apply(case, linen_to_nnx(case, variables), x)


def test_params_of_one_case_do_not_fit_another(linen, nnx):
    shared, ensemble = sized("shared"), sized("ensemble")
    variables, x = random_variables(shared), random_batch(shared)
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(shared, variables))):
        with pytest.raises(InputError, match=r"expected \(4, 3, 5, 5\), received \(3, 5, 5\)"):
            implementation.apply(ensemble, moved, x)


def test_the_order_of_the_lifts_matters_for_own_params_only(linen, nnx):
    for implementation in (linen, nnx):
        shared, reverse = (implementation.init(sized(name), 0) for name in ("shared", "reversed"))
        assert_identical(shared, reverse)
        own = kernel_of(implementation.init(sized("ensemble"), 0))
        swapped = kernel_of(implementation.init(sized("reversed_ensemble"), 0)).swapaxes(0, 1)
        assert own.shape == swapped.shape
        # The key of (i, j) is split(split(key)[i])[j] or split(split(key)[j])[i]: one for i == j.
        equal = np.all(own == swapped, axis=(-1, -2))
        assert_identical(np.eye(4, 3, dtype=bool), equal)


def test_a_carry_keeps_its_width():
    x = np.ones((4, 6), np.float32)
    with pytest.raises(TypeError, match="carry input and carry output must have equal types"):
        linen_composed.Shared(3, 5).init(jax.random.key(0), x, None)
    with pytest.raises(TypeError, match="contracting dimensions"):
        nnx_composed.Shared(3, 5, rngs=flax_nnx.Rngs(0))(x)
    for package in (linen_impl, nnx_impl):
        with pytest.raises(InputError, match=r"x.shape\[-1\] is 6, but features=5"):
            package.composed_lifts_forward(0, x, 3, 5)
        with pytest.raises(InputError, match="expected \\(batch, features\\), received"):
            package.composed_lifts_forward(0, x[0], 3, 5)
        with pytest.raises(InputError, match="num_layers=-1"):
            package.composed_lifts_forward(0, x, -1, 6)


def test_without_jit_linen_counts_otherwise(linen, nnx):
    case = sized("shared")
    expected = linen.init(case, 0)
    with jax.disable_jit():
        other = linen.init(case, 0)
        same = nnx.init(case, 0)
    far = np.abs(kernel_of(expected) - kernel_of(other)).max(axis=(1, 2))
    assert far[0] < 1e-6  # the first layer draws number 3 there too, up to rounding
    assert np.all(far[1:] > 0.1)
    assert np.abs(kernel_of(expected) - kernel_of(same)).max() < 1e-6


@pytest.mark.parametrize("dtype", [np.int32, np.bool_, jnp.bfloat16])
@pytest.mark.parametrize("package", [linen_impl, nnx_impl])
def test_a_carry_keeps_its_dtype(package, dtype):
    with pytest.raises(TypeError, match="must have equal types"):
        package.composed_lifts_forward(0, jnp.ones((4, 5), dtype), 3, 5)


@pytest.mark.parametrize("package", [linen_impl, nnx_impl])
def test_no_layer_is_the_identity(package):
    x = random_batch(sized("shared"))
    assert_identical(x.reshape(-1), package.composed_lifts_forward(0, x, 0, 5))


@pytest.mark.parametrize("package", [linen_impl, nnx_impl])
def test_nan_stays_in_its_example(package):
    x = random_batch(sized("shared"))
    clean = package.composed_lifts_forward(0, x, 3, 5).reshape(x.shape)
    x[2, 1] = np.nan
    dirty = package.composed_lifts_forward(0, x, 3, 5).reshape(x.shape)
    others = np.array([0, 1, 3])
    assert_identical(clean[others], dirty[others])
    assert np.all(np.isnan(dirty[2]))


def test_a_linen_lift_made_in_a_function_is_compiled_again_and_an_nnx_graph_is_not():
    x = random_batch(sized("shared"))
    # What `functools.cache` on the constructor keeps from happening.
    make = linen_composed.Shared.__wrapped__
    linen_composed.forward.clear_cache()
    for _ in range(3):
        model = make(3, 5)
        linen_composed.forward(model, model.init(jax.random.key(0), x, None), x)
    assert linen_composed.forward._cache_size() == 3
    for composed in (linen_composed, nnx_composed):
        composed.forward.clear_cache()
        for _ in range(3):
            composed.composed_lifts_forward(0, x, 3, 5)
        assert composed.forward._cache_size() == 1


def test_linen_asks_for_the_second_argument_of_a_scan_body():
    model = linen_composed.Shared(3, 5)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        model.init(jax.random.key(0), np.ones((4, 5), np.float32))


def test_assigning_to_an_nnx_variable_broadcasts_and_casts_in_silence():
    model = nnx_composed.Shared(3, 5, rngs=flax_nnx.Rngs(0))
    model.layers.dense.kernel[...] = np.ones((5, 5), np.int8)
    assert model.layers.dense.kernel.shape == (3, 5, 5)
    assert model.layers.dense.kernel.dtype == np.float32
