"""Statistics of a stack: one for the batch, by layer; equal in both after steps of training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from helpers import (
    assert_identical,
    linen_to_nnx,
    random_inputs,
    random_variables,
    small,
    updates_to_linen,
)

from nnx_impl.batch_norm import Synchronised
from shared.cases import CASES

CASE = small(CASES["batch_norm"])
MOMENTUM = 0.99  # of both APIs, where none is given


def trained(implementation, variables, steps):
    """The variables after some steps of gradient descent, each on a batch of its own."""

    @jax.jit
    def step(variables, inputs):
        def loss(params):
            outputs, updates = implementation.apply(CASE, {**variables, "params": params}, *inputs)
            return (outputs**2).sum(), updates

        gradient, updates = jax.grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 0.01 * g, variables["params"], gradient)
        return {"params": params, **updates}

    for seed in range(steps):
        variables = step(variables, random_inputs(CASE, seed))
    return variables


def test_equal_after_steps_of_training(linen, nnx):
    variables = random_variables(CASE)
    expected = trained(linen, variables, 5)
    assert_identical(
        expected, updates_to_linen(CASE, trained(nnx, linen_to_nnx(CASE, variables), 5))
    )
    for name in ("mean", "var"):
        before, after = (v["batch_stats"]["BatchNorm_0"][name] for v in (variables, expected))
        assert np.all(before != after)


def test_the_statistics_are_those_of_the_batch(linen, nnx):
    case = dataclasses.replace(CASE, num_layers=1)
    variables, (x,) = random_variables(case), random_inputs(case)
    kernel, bias = (variables["params"]["Dense_0"][name][0] for name in ("kernel", "bias"))
    before = variables["batch_stats"]["BatchNorm_0"]
    h = x.astype(np.float64) @ kernel + bias
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(case, variables))):
        updates = updates_to_linen(case, implementation.apply(case, moved, x)[1])
        after = updates["batch_stats"]["BatchNorm_0"]
        for name, of_batch in (("mean", h.mean(axis=0)), ("var", h.var(axis=0))):
            expected = MOMENTUM * before[name][0] + (1 - MOMENTUM) * of_batch
            np.testing.assert_allclose(after[name][0], expected, rtol=1e-6, atol=1e-6)


def test_at_evaluation_nothing_is_updated(linen, nnx):
    case = small(CASES["batch_norm_eval"])
    variables, inputs = random_variables(case), random_inputs(case)
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(case, variables))):
        _, updates = implementation.apply(case, moved, *inputs)
        assert_identical(moved["batch_stats"], updates["batch_stats"])


def test_a_view_for_evaluation_is_the_case_of_evaluation(linen):
    case = small(CASES["batch_norm_eval"])
    inputs = random_inputs(case)
    model = Synchronised(CASE.num_layers, CASE.features, train=True, rngs=flax_nnx.Rngs(0))
    view = flax_nnx.view(model, use_running_average=True)
    other = Synchronised(CASE.num_layers, CASE.features, train=False, rngs=flax_nnx.Rngs(0))
    assert_identical(other(*inputs), view(*inputs))


def test_without_axis_name_the_statistics_have_nowhere_to_meet():
    """Linen's init passes, its apply fails; so does the call of NNX."""
    x = np.ones((4, 5), np.float32)

    class Alone(flax_linen.Module):
        @flax_linen.compact
        def __call__(self, x):
            return flax_linen.BatchNorm(use_running_average=False)(x)

    axes = {"params": None, "batch_stats": None}
    model = flax_linen.vmap(Alone, variable_axes=axes, split_rngs={"params": False})()
    variables = model.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="axis spec None but output was batched"):
        model.apply(variables, x, mutable=["batch_stats"])
    norm = flax_nnx.BatchNorm(5, rngs=flax_nnx.Rngs(0))
    call = flax_nnx.vmap(lambda norm, x: norm(x), in_axes=(None, 0), graph=False)
    with pytest.raises(ValueError, match="axis spec None but output was batched"):
        call(norm, x)


def test_half_precision_is_returned_as_float32_by_nnx_alone():
    x = jnp.ones((4, 5), jnp.float16)
    norm = flax_nnx.BatchNorm(5, param_dtype=jnp.float16, rngs=flax_nnx.Rngs(0))
    assert norm(x).dtype == jnp.float32
    of_linen = flax_linen.BatchNorm(use_running_average=False, param_dtype=jnp.float16)
    y, _ = of_linen.init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.float16
