"""Params in float32, arithmetic in bfloat16, and the carry of a scan that has to be in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from helpers import gradients, linen_to_nnx, random_inputs, random_variables, small

from linen_impl import mixed_precision as linen_mixed
from nnx_impl import mixed_precision as nnx_mixed
from shared.cases import CASES

CASE = small(CASES["mixed_precision"])


def test_params_and_gradients_are_float32_and_results_are_rounded(linen, nnx):
    variables, inputs = random_variables(CASE), random_inputs(CASE)
    full, _ = linen.apply(
        small(CASES["shared"]), {"params": variables["params"]["layers"]}, *inputs
    )
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(CASE, variables))):
        leaves = jax.tree.leaves(implementation.init(CASE, 0))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
        y, _ = implementation.apply(CASE, moved, *inputs)
        assert np.all(y == y.astype(jnp.bfloat16))
        np.testing.assert_allclose(y, full, rtol=0.1, atol=0.1)
        assert np.any(y != full)
        got = jax.tree.leaves(gradients(implementation, CASE, moved, inputs))
        assert {leaf.dtype for leaf in got} == {jnp.dtype("float32")}


DIFFERS = r"carry component {} has type float32\[5\] .* carry component has type bfloat16\[5\]"


def test_a_batch_that_is_not_cast_is_refused():
    scan = flax_linen.scan(
        linen_mixed.MixedBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
    )
    with pytest.raises(TypeError, match=DIFFERS.format(r"c\[1\]")):
        scan(features=5).init(jax.random.key(0), jnp.zeros(5), None)
    model = nnx_mixed.MixedPrecision(3, 5, rngs=flax_nnx.Rngs(0))
    with pytest.raises(TypeError, match=DIFFERS.format(r"layer\[0\]")):
        model.scan_layer(model.layers, jnp.zeros(5))


def test_without_a_dtype_layers_compute_in_that_of_params_and_carry():
    """The larger of the two: float32, which a carry in bfloat16 is not."""
    x = jnp.zeros(5, jnp.bfloat16)
    layer = flax_linen.Dense(5)
    assert layer.apply(layer.init(jax.random.key(0), x), x).dtype == jnp.float32
    assert flax_nnx.Linear(5, 5, rngs=flax_nnx.Rngs(0))(x).dtype == jnp.float32
