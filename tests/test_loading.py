"""Linen's variables, moved, are what Flax loads into the port as they are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from helpers import assert_identical

from shared import Pair, WeightMap, find_weight_map
from shared.trees import flatten

F = 3


class Model(nn.Module):
    """Layers in a loop, a norm with statistics, and a carry that is kept."""

    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = nn.tanh(nn.Dense(F)(x))
        x = nn.BatchNorm(use_running_average=True)(x)
        first = self.variable("cache", "carry", lambda: (jnp.ones(F), {"last": jnp.ones(F)}))
        one, other = first.value
        first.value = (one + x[0], {"last": other["last"] * x[0]})
        kernel = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
        return nn.Dense(2, kernel_init=kernel)(x)


class Port(nnx.Module):
    """Modules in lists, dicts and sequences, one in the other."""

    def __init__(self, rngs):
        def linear():
            return nnx.Linear(F, F, rngs=rngs)

        self.first = nnx.Dict({"0": nnx.Sequential(linear(), jnp.tanh), "a/b": linear()})
        self.rest = nnx.List([nnx.Dict(inner=nnx.List([linear()]))])
        self.norm = nnx.BatchNorm(F, use_running_average=True, rngs=rngs)
        self.carry = nnx.Cache((jnp.ones(F), {"last": jnp.ones(F)}))
        self.head = nnx.Linear(F, 2, rngs=rngs)

    def __call__(self, x):
        x = self.first["0"](x)
        x = jnp.tanh(self.first["a/b"](x))
        x = self.norm(jnp.tanh(self.rest[0].inner[0](x)))
        one, other = self.carry.get_value()
        self.carry.set_value((one + x[0], {"last": other["last"] * x[0]}))
        return self.head(x)


X = jax.ShapeDtypeStruct((4, F), "float32")
PAIR = Pair(Model(), lambda rngs: Port(rngs), (X,))


@pytest.fixture(scope="module")
def weights():
    return find_weight_map(PAIR)


@pytest.fixture(scope="module")
def variables():
    return Model().init(jax.random.key(1), jnp.ones(X.shape))


def outputs_of(port):
    return port(jnp.linspace(-1, 1, 4 * F).reshape(X.shape))


@pytest.fixture(scope="module")
def expected(variables):
    x = jnp.linspace(-1, 1, 4 * F).reshape(X.shape)
    return Model().apply(variables, x, mutable=["cache"])[0]


def test_update_takes_the_pure_dict(weights, variables, expected):
    port = Port(nnx.Rngs(5))
    nnx.update(port, weights.to_pure_dict(variables))
    np.testing.assert_allclose(outputs_of(port), expected, rtol=1e-6)


@pytest.mark.thorough
def test_replace_by_pure_dict_takes_it(weights, variables, expected):
    port = Port(nnx.Rngs(5))
    state = nnx.state(port)
    nnx.replace_by_pure_dict(state, weights.to_pure_dict(variables))
    nnx.update(port, state)
    np.testing.assert_allclose(outputs_of(port), expected, rtol=1e-6)


def test_update_takes_each_collection(weights, variables, expected):
    port = Port(nnx.Rngs(5))
    moved = weights.to_nnx(variables)
    assert moved.keys() == {"params", "batch_stats", "cache"}
    for tree in moved.values():
        nnx.update(port, tree)
    np.testing.assert_allclose(outputs_of(port), expected, rtol=1e-6)


def test_the_pure_dict_is_that_of_flax(weights, variables):
    state = nnx.to_pure_dict(nnx.state(Port(nnx.Rngs(5))))
    assert jax.tree.structure(weights.to_pure_dict(variables)) == jax.tree.structure(state)


def test_what_the_port_holds_is_moved_back(weights, variables):
    port = Port(nnx.Rngs(5))
    nnx.update(port, weights.to_pure_dict(variables))
    kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat, "cache": nnx.Cache}
    state = {name: nnx.to_pure_dict(nnx.state(port, kind)) for name, kind in kinds.items()}
    back = weights.to_linen(state)
    assert_identical(back["params"], nn.unbox(variables["params"]))
    carries = (each["cache"]["carry"] for each in (back, variables))
    assert len(set(map(jax.tree.structure, carries))) == 1
    assert flatten(weights.to_nnx(back)).keys() == flatten(weights.to_nnx(variables)).keys()


def test_a_map_in_a_file_knows_the_keys(weights, variables, tmp_path):
    path = str(tmp_path / "map.json")
    weights.save(path)
    again = WeightMap.load(path)
    assert again.places == weights.places
    state = nnx.to_pure_dict(nnx.state(Port(nnx.Rngs(5))))
    assert jax.tree.structure(again.to_pure_dict(variables)) == jax.tree.structure(state)


def test_a_map_that_knows_no_keys_takes_them_from_the_paths(weights, variables):
    moved = dataclasses.replace(weights, places={}).to_nnx(variables)
    assert moved["params"]["rest"]["0"]["inner"]["0"].keys() == {"kernel", "bias"}
