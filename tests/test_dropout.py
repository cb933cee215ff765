"""A mask of its own for each layer and example, where the streams are split; else one for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from helpers import linen_to_nnx, random_batch, random_variables, small

from linen_impl.dropout import DropoutBlock
from nnx_impl.dropout import OwnMasks
from shared.cases import CASES


def on_equal_examples(implementation, case, variables):
    """The activation (B, F) where all examples are one: rows differ by their masks alone."""
    x = np.repeat(random_batch(case)[:1], case.batch_size, axis=0)
    return np.asarray(implementation.apply(case, variables, x, jax.random.key(5))[0])


@pytest.mark.parametrize(("name", "own"), [("dropout", True), ("dropout_shared_masks", False)])
def test_equal_examples_differ_by_their_masks(linen, nnx, name, own):
    case = small(CASES[name])
    variables = random_variables(case)
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(case, variables))):
        rows = on_equal_examples(implementation, case, moved)
        assert np.any(rows)
        assert np.any(rows != rows[:1]) == own


def test_each_layer_has_its_own_mask():
    """Of layers that do nothing else: a unit survives all of them or is dropped by one."""
    layers, units = 3, 4000
    model = OwnMasks(layers, 1, 0.25, rngs=flax_nnx.Rngs(params=0))
    model.layers.dense.kernel[...] = jnp.ones((layers, 1, 1))
    model.layers.dense.bias[...] = jnp.zeros((layers, 1))
    kept = model(jnp.ones((units, 1)), flax_nnx.Rngs(dropout=1))
    assert abs(np.mean(np.asarray(kept) > 0) - 0.75**layers) < 0.03  # 0.75 with one mask for all


def test_the_rngs_of_nnx_do_as_well():
    model = OwnMasks(3, 5, 0.25, rngs=flax_nnx.Rngs(params=0))
    x = jnp.ones((4, 5))
    one, same, other = (model(x, flax_nnx.Rngs(dropout=seed)) for seed in (0, 0, 1))
    assert jnp.array_equal(one, same)
    assert not jnp.array_equal(one, other)


def test_linen_does_not_see_a_stream_that_is_not_split_and_init_does_not_tell():
    scan = flax_linen.scan(
        DropoutBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
    )
    model = scan(features=5, rate=0.25)
    variables = model.init(jax.random.key(0), jnp.ones(5), None)
    with pytest.raises(flax_linen.module.errors.InvalidRngError, match='needs PRNG for "dropout"'):
        model.apply(variables, jnp.ones(5), None, rngs={"dropout": jax.random.key(1)})


def test_a_stream_that_a_module_keeps_is_one_for_the_whole_batch():
    """In silence; of a stack it is an error."""

    class Keeps(flax_nnx.Module):
        def __init__(self, rngs):
            self.dropout = flax_nnx.Dropout(0.5, deterministic=False, rngs=rngs)

        def __call__(self, x):
            return self.dropout(x)

    batched = flax_nnx.vmap(Keeps.__call__, in_axes=(None, 0), graph=False)
    rows = batched(Keeps(flax_nnx.Rngs(dropout=0)), jnp.ones((4, 50)))
    assert jnp.array_equal(rows, jnp.repeat(rows[:1], 4, axis=0))
    stack = flax_nnx.vmap(Keeps, graph=False)(flax_nnx.Rngs(dropout=0).split(3))
    with pytest.raises(ValueError, match="fold_in accepts a single key"):
        batched(stack, jnp.ones((4, 50)))
