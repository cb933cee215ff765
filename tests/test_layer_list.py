"""A list of layers and a stack of them are the same numbers, and lead from one to the other."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx as flax_nnx
from helpers import assert_identical, random_batch, random_variables, small

from linen_impl import composed as linen_composed
from linen_impl import layer_list as linen_layers
from nnx_impl import composed as nnx_composed
from nnx_impl import layer_list as nnx_layers
from shared.cases import CASES

CASE = small(CASES["layer_list"])
X = random_batch(CASE)


@pytest.mark.parametrize("num_layers", [3, 11])
def test_linen(num_layers):
    model = linen_layers.LayerList(num_layers, 5)
    params = model.init(jax.random.key(0), X)["params"]
    stacked = linen_layers.stack(params)
    assert stacked["Dense_0"]["kernel"].shape == (num_layers, 5, 5)
    assert_identical(params, linen_layers.unstack(stacked))
    shared = linen_composed.Shared(num_layers, 5)
    expected, _ = shared.apply({"params": stacked}, X, None)
    assert_identical(expected, model.apply({"params": params}, X))


@pytest.mark.parametrize("num_layers", [3, 11])
def test_nnx(num_layers):
    model = nnx_layers.LayerList(num_layers, 5, rngs=flax_nnx.Rngs(0))
    stacked = nnx_layers.stack(model.layers)
    assert stacked.dense.kernel.shape == (num_layers, 5, 5)
    layers = nnx_layers.unstack(stacked)
    assert type(layers) is flax_nnx.List
    assert_identical(*(flax_nnx.to_pure_dict(flax_nnx.state(x)) for x in (model.layers, layers)))
    shared = nnx_composed.Shared(num_layers, 5, rngs=flax_nnx.Rngs(1))
    shared.layers = stacked
    assert_identical(model(X), shared(X))
    model.layers = layers
    assert_identical(model(X), shared(X))


def test_a_stack_on_the_second_axis_is_that_on_the_first_moved(linen, nnx):
    first, second = small(CASES["shared"]), small(CASES["scan_axis_1"])
    for implementation in (linen, nnx):
        moved = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), implementation.init(first, 0))
        assert_identical(moved, implementation.init(second, 0))
    params = random_variables(first)
    moved = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), params)
    expected, _ = linen.apply(first, params, X)
    assert_identical(expected, linen.apply(second, moved, X)[0])


def test_a_plain_list_holds_no_variables():
    class PlainList(flax_nnx.Module):
        def __init__(self):
            self.layers = [flax_nnx.Linear(5, 5, rngs=flax_nnx.Rngs(0))]

    with pytest.raises(ValueError, match="assigned to static attribute 'layers'"):
        PlainList()
