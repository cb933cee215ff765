"""One set of params trains, evaluates and samples; what a stream or a cache that is lost does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from helpers import assert_identical, linen_to_nnx, random_inputs, random_variables, small

from linen_impl import transformer as linen_transformer
from nnx_impl import transformer as nnx_transformer
from nnx_impl.implementation import build, native_rngs
from shared.cases import CASES

TRAINING, DECODE = small(CASES["transformer"]), small(CASES["transformer_decode"])
EVALUATED = {**TRAINING.arguments, "deterministic": True}


@functools.cache
def whole_texts():
    """Params, texts, and their logits where nothing is dropped."""
    params, (tokens, _) = random_variables(TRAINING)["params"], random_inputs(TRAINING)
    model = linen_transformer.Transformer(**EVALUATED)
    return params, tokens, model.apply({"params": params}, tokens)


def model_in_training():
    """A model of NNX with the params of `whole_texts`."""
    model = build(TRAINING, native_rngs(seed=1))
    flax_nnx.update(model, linen_to_nnx(TRAINING, {"params": whole_texts()[0]})["params"])
    return model


def test_a_model_in_training_is_evaluated_by_another_field_of_linen_or_a_view_of_nnx():
    params, tokens, logits = whole_texts()
    model = linen_transformer.Transformer(**TRAINING.arguments).clone(deterministic=True)
    assert_identical(logits, model.apply({"params": params}, tokens))
    model = model_in_training()
    view = flax_nnx.view(model, deterministic=True)
    assert_identical(logits, view(tokens))
    assert view.embed.embedding is model.embed.embedding
    assert np.any(logits != model(tokens, flax_nnx.Rngs(dropout=0)))


# Of an attention alone it is in tests/test_decode.py.
@pytest.mark.thorough
@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_step_by_step_is_the_whole_text_at_once(name, linen, nnx, request):
    implementation = request.getfixturevalue(name)
    params, tokens, logits = whole_texts()
    variables = {"params": params, "cache": linen.init(DECODE, 0)["cache"]}
    if name == "nnx":
        variables = linen_to_nnx(DECODE, variables)
    step = jax.jit(lambda v, token, start: implementation.apply(DECODE, v, token, start))
    steps = []
    for t in range(tokens.shape[1]):
        y, updates = step(variables, tokens[:, t : t + 1], t)
        variables = {**variables, **updates}
        steps.append(y)
    np.testing.assert_allclose(jnp.concatenate(steps, axis=1), logits, rtol=1e-4, atol=1e-5)


def test_equal_texts_differ_by_their_masks():
    logits = model_in_training()(np.zeros((4, 6), np.int32), flax_nnx.Rngs(dropout=0))
    assert len(np.unique(logits, axis=0)) == 4


def test_under_jax_jit_each_step_drops_the_same():
    model, tokens = model_in_training(), whole_texts()[1]
    for jit, moves in ((jax.jit, False), (functools.partial(flax_nnx.jit, graph=False), True)):
        rngs = flax_nnx.Rngs(dropout=0)
        call = jit(lambda model, tokens, rngs: model(tokens, rngs))
        first, second = (call(model, tokens, rngs) for _ in range(2))
        assert bool(jnp.any(first != second)) == moves
        assert int(rngs.dropout.count[...]) == 2 * moves


def test_training_without_a_stream_is_an_error_in_both():
    params, tokens, _ = whole_texts()
    model = linen_transformer.Transformer(**TRAINING.arguments)
    with pytest.raises(Exception, match='Dropout_0 needs PRNG for "dropout"'):
        model.apply({"params": params}, tokens)
    with pytest.raises(KeyError, match="No RngStream named 'dropout' found in Rngs"):
        model_in_training()(tokens)
    rngs = flax_nnx.Rngs(dropout=0)
    with pytest.raises(Exception, match="Cannot mutate RngCount from a different trace level"):
        jax.grad(lambda model: model(tokens, rngs).sum())(model_in_training())


def test_a_cache_takes_one_token_of_each_text():
    model = nnx_transformer.Decode(**DECODE.arguments, rngs=flax_nnx.Rngs(0))
    with pytest.raises(ValueError, match="Autoregressive cache not initialized"):
        model(jnp.zeros((4, 1), int), 0)
    model.init_cache((4, 6))
    with pytest.raises(ValueError, match="Autoregressive cache shape error"):
        model(jnp.zeros((4, 6), int), 0)
    view = flax_nnx.view(model_in_training(), deterministic=True, decode=True)
    with pytest.raises(ValueError, match="Autoregressive cache not initialized"):
        view(jnp.zeros((4, 6), int))


def test_a_cache_that_linen_makes_in_the_call_is_as_long_as_one_token():
    params, tokens, logits = whole_texts()
    model = linen_transformer.Decode(**DECODE.arguments)
    with pytest.raises(Exception, match='Tried to access "cached_key" from collection "cache"'):
        model.apply({"params": params}, tokens[:, :1], 0)
    y, made = model.apply({"params": params}, tokens[:, 3:4], 3, mutable=["cache"])
    assert made["cache"]["layers"]["attention"]["cached_key"].shape == (3, 4, 1, 2, 3)
    assert np.abs(y - logits[:, 3:4]).max() > 1e-2
