"""Token by token with a cache is the whole text at once; what makes no cache, or a wrong one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from helpers import assert_identical, linen_to_nnx, random_inputs, random_variables, small

from linen_impl import decode as linen_decode
from nnx_impl import decode as nnx_decode
from shared import Pair, verify
from shared.cases import CASES

CAUSAL, DECODE = small(CASES["causal"]), small(CASES["decode"])
SIZES = {"num_layers": 3, "features": 5, "num_heads": 2, "head_dim": 3}


@pytest.mark.quick("nnx")
@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_step_by_step_is_the_whole_text_at_once(name, linen, nnx, request):
    implementation = request.getfixturevalue(name)
    params, (x,) = random_variables(CAUSAL)["params"], random_inputs(CAUSAL)
    cache = linen.init(DECODE, 0)["cache"]
    variables = {"params": params, "cache": cache}
    if name == "nnx":
        variables = linen_to_nnx(DECODE, variables)
        assert_identical(variables["cache"], nnx.init(DECODE, 0)["cache"])
    step = jax.jit(lambda v, token: implementation.apply(DECODE, v, token))
    steps = []
    for t in range(x.shape[1]):
        y, updates = step(variables, x[:, t : t + 1])
        variables = {**variables, **updates}
        steps.append(y)
    whole, _ = linen.apply(CAUSAL, {"params": params}, x)
    np.testing.assert_allclose(jnp.concatenate(steps, axis=1), whole, rtol=1e-4, atol=1e-5)
    index = next(leaf for leaf in jax.tree.leaves(variables["cache"]) if leaf.dtype == np.int32)
    assert index.tolist() == [6, 6, 6]


def test_a_step_beyond_the_cache_is_an_error_nowhere(linen, nnx):
    variables, (x,) = random_variables(DECODE), random_inputs(DECODE)
    full = jax.tree.map(lambda a: a + 6 if a.dtype == np.int32 else a, variables)
    for implementation, moved in ((linen, full), (nnx, linen_to_nnx(DECODE, full))):
        y, updates = implementation.apply(DECODE, moved, x)
        assert np.isfinite(y).all()
        assert max(np.max(leaf) for leaf in jax.tree.leaves(updates) if leaf.ndim == 1) == 7


def test_the_length_of_the_cache_is_that_of_linens_init_and_said_to_nnx():
    model = linen_decode.Decode(**SIZES)
    cache = model.init(jax.random.key(0), jnp.zeros((4, 9, 5)), None)["cache"]
    assert cache["MultiHeadDotProductAttention_0"]["cached_key"].shape == (3, 4, 9, 2, 3)
    model = nnx_decode.Decode(**SIZES, rngs=flax_nnx.Rngs(0))
    with pytest.raises(ValueError, match="Autoregressive cache not initialized"):
        model(jnp.zeros((4, 1, 5)))
    model.init_cache((4, 9, 5))
    assert model.layers.attention.cached_key.shape == (3, 4, 9, 2, 3)
    with pytest.raises(ValueError, match="Autoregressive cache shape error"):
        model(jnp.zeros((4, 2, 5)))


def test_a_cache_made_inside_of_a_lift_is_forgotten_in_silence():
    model = nnx_decode.Decode(**SIZES, rngs=flax_nnx.Rngs(0))

    def init_cache(block):
        block.attention.init_cache((4, 9, 5))

    flax_nnx.vmap(init_cache, out_axes=None, graph=False)(model.layers)
    assert model.layers.attention.cached_key is None

    def init_and_return(block):
        block.attention.init_cache((4, 9, 5))
        return block

    with pytest.raises(ValueError, match="Duplicate"):
        flax_nnx.vmap(init_and_return, out_axes=0, graph=False)(model.layers)


@pytest.mark.thorough
def test_a_step_that_is_also_causal_sees_the_first_token_alone():
    """https://github.com/google/flax/issues/5591"""
    attention = flax_nnx.MultiHeadAttention(
        2, 5, qkv_features=6, decode=True, rngs=flax_nnx.Rngs(0)
    )
    x, y = jax.random.normal(jax.random.key(0), (2, 4, 1, 5))
    got = []
    for causal in (False, True):
        attention.init_cache((4, 6, 5))
        attention(x)
        got.append(attention(y, is_causal=causal))
    attention.init_cache((4, 6, 5))
    first = attention(x)
    np.testing.assert_allclose(got[1], first, atol=1e-6)
    assert np.abs(got[0] - first).max() > 1e-2


def test_the_default_of_nnx_is_equal_up_to_rounding():
    x = jax.random.normal(jax.random.key(0), (4, 6, 5))
    linen = flax_linen.MultiHeadDotProductAttention(2, qkv_features=6)
    params = linen.init(jax.random.key(1), x)["params"]
    got = []
    for words in ({}, {"attention_fn": nnx_decode.linen_attention}):
        port = flax_nnx.MultiHeadAttention(
            2, 5, qkv_features=6, decode=False, rngs=flax_nnx.Rngs(0), **words
        )
        flax_nnx.update(port, params)
        got.append(port(x))
    expected = linen.apply({"params": params}, x)
    assert_identical(expected, got[1])
    np.testing.assert_allclose(expected, got[0], rtol=1e-5, atol=1e-6)
    assert np.any(expected != got[0])


@pytest.mark.parametrize(("rate", "verdict"), [(0.0, "close"), (0.1, "identical")])
def test_the_default_of_nnx_is_that_of_linen_with_a_rate_of_dropout(rate, verdict):
    words = {"qkv_features": 6, "dropout_rate": rate, "deterministic": True}
    pair = Pair(
        flax_linen.MultiHeadDotProductAttention(2, **words),
        lambda rngs: flax_nnx.MultiHeadAttention(2, 5, **words, decode=False, rngs=rngs),
        (jax.ShapeDtypeStruct((4, 6, 5), "float32"),),
    )
    assert verify(pair, samples=1).verdict == verdict


@pytest.mark.thorough
def test_the_cache_takes_its_dtype_from_linens_input_and_is_float32_in_nnx(linen, nnx):
    with jax.enable_x64(True):
        model, x = linen_decode.Decode(**SIZES), jnp.zeros((4, 6, 5))
        cache = model.init(jax.random.key(0), x, None)["cache"]
        assert cache["MultiHeadDotProductAttention_0"]["cached_key"].dtype == jnp.float64
        for implementation in (linen, nnx):  # whose zeros have the dtype that the row says
            leaves = jax.tree.leaves(implementation.init(DECODE, 0))
            assert {str(leaf.dtype) for leaf in leaves} == {"float32", "int32"}
