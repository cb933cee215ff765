"""A mask of its own for each layer and example, where the streams are split; else one for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors as flax_errors
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from helpers import assert_identical, linen_to_nnx, random_batch, random_variables, small

from linen_impl.dropout import DropoutBlock
from nnx_impl.dropout import OwnMasks
from shared import Pair, verify
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


class Keeps(flax_nnx.Module):
    """A dropout with a stream of its own."""

    def __init__(self, rngs):
        self.dense = flax_nnx.Linear(50, 50, rngs=rngs)
        self.dropout = flax_nnx.Dropout(0.5, deterministic=False, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.dense(x))


def test_a_stream_that_a_module_keeps_is_one_for_the_whole_batch():
    """In silence; of a stack it is an error."""
    batched = flax_nnx.vmap(lambda keeps, x: keeps.dropout(x), in_axes=(None, 0), graph=False)
    rows = batched(Keeps(flax_nnx.Rngs(0)), jnp.ones((4, 50)))
    assert jnp.array_equal(rows, jnp.repeat(rows[:1], 4, axis=0))
    stack = flax_nnx.vmap(Keeps, graph=False)(flax_nnx.Rngs(0).split(3))
    with pytest.raises(ValueError, match="fold_in accepts a single key"):
        batched(stack, jnp.ones((4, 50)))


class Layer(flax_linen.Module):
    @flax_linen.compact
    def __call__(self, x, _):
        return flax_linen.Dropout(0.5, deterministic=False)(flax_linen.Dense(50)(x)), None


class KeepingStack(flax_nnx.Module):
    def __init__(self, rngs):
        self.layers = flax_nnx.vmap(Keeps, graph=False)(rngs.split(3))

    def __call__(self, x):
        axes = {"in_axes": (0, flax_nnx.Carry), "out_axes": flax_nnx.Carry}
        return flax_nnx.scan(Keeps.__call__, **axes, graph=False)(self.layers, x)


def test_a_stack_may_keep_its_streams_where_no_vmap_is_around_it():
    x = jnp.ones((4, 50))
    stack = KeepingStack(flax_nnx.Rngs(0))
    first, second = stack(x), stack(x)
    assert not jnp.array_equal(first, second)
    assert jnp.any(first[0] != first[1])
    lifted = flax_linen.scan(
        Layer,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        length=3,
    )
    pair = Pair(lifted(), KeepingStack, (x,), linen_call=lambda model, x: model(x, None)[0])
    found = verify(pair, samples=1)
    assert found.verdict == "identical", found.divergence


def loss(module, x):
    return module(x).sum()


def gradients(module, x):
    """Of the params; the module draws as in a call."""
    return flax_nnx.grad(
        loss, argnums=flax_nnx.DiffState(0, flax_nnx.Param), graph=True, graph_updates=True
    )(module, x)


def test_a_stream_of_the_outside_is_no_part_of_what_is_differentiated():
    module, x, rngs = Keeps(flax_nnx.Rngs(0)), jnp.ones((4, 50)), flax_nnx.Rngs(0)
    mask = flax_nnx.Dropout(0.5, deterministic=False)
    for closed in (module, lambda x: mask(x, rngs=rngs)):
        for graph in (True, False):
            with pytest.raises(flax_errors.TraceContextError, match="Cannot mutate RngCount"):
                flax_nnx.grad(lambda x: closed(x).sum(), graph=graph)(x)  # noqa: B023
    dropped = lambda x, rngs: mask(x, rngs=rngs).sum()  # noqa: E731
    first, second = (flax_nnx.grad(dropped, graph=False)(x, rngs) for _ in range(2))
    assert not jnp.array_equal(first, second)  # the stream has counted
    first, second = (gradients(module, x).dense.bias[...] for _ in range(2))
    assert not jnp.array_equal(first, second)


def test_a_stream_has_no_gradient():
    module, x = Keeps(flax_nnx.Rngs(0)), jnp.ones((4, 50))
    message = "grad requires real- or complex-valued inputs .*, but got uint32"
    for grad in (jax.grad(loss), flax_nnx.grad(loss, graph=False)):
        with pytest.raises(TypeError, match=message):
            grad(module, x)
    graphdef, params, rest = flax_nnx.split(module, flax_nnx.Param, ...)

    def of_params(params):
        return flax_nnx.merge(graphdef, params, rest, copy=True)(x).sum()

    expected = jax.grad(of_params)(params)
    assert_identical(*(flax_nnx.to_pure_dict(state) for state in (expected, gradients(module, x))))
    assert flax_nnx.grad(loss, argnums=1, graph=False)(module, x).shape == x.shape
