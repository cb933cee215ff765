"""Choices and loops: what no sample shows is seen, and models may have no gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, find_weight_map, verify
from tests.ports import choices, dense

F = 4
X = (jax.ShapeDtypeStruct((2, F), "float32"),)


@pytest.mark.parametrize("pair", [choices.PAIR, choices.LOOP], ids=["choices", "loop"])
def test_branches_and_bodies_of_loops_are_compared_operation_by_operation(pair):
    found = verify(pair, samples=1)
    assert found.verdict == "identical"
    names = {(row["linen"].split("/")[1], row["nnx"].split("/")[1]) for row in found.rows}
    assert names <= {
        ("stem", "enter"), ("step", "again"), ("small", "near"), ("large", "far"),
        *((f"expert_{i}", "choices") for i in range(3)),
    }  # fmt: skip


def test_what_cannot_be_differentiated_on_either_side_has_equal_gradients():
    found = verify(choices.LOOP, samples=1)
    checks = {check.name: check for check in found.checks}
    assert checks["gradients"].status == checks["training"].status == "equal"
    assert "neither model has gradients: Reverse-mode" in checks["gradients"].note


@jax.custom_vjp
def refused(x):
    return jnp.tanh(x)


def refuses(x, cotangent):
    raise NotImplementedError("no gradient of tanh here")


refused.defvjp(lambda x: (jnp.tanh(x), x), refuses)


def looped(x):
    return jax.lax.while_loop(lambda state: state[0] < 1, lambda s: (1, jnp.tanh(s[1])), (0, x))[1]


def test_the_reasons_of_both_models_to_have_no_gradients_are_given():
    found = verify(dense.then(refused, looped, X), samples=1)
    note = next(check.note for check in found.checks if check.name == "gradients")
    assert note.startswith("neither model has gradients: no gradient of tanh here; in NNX: Reverse")


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(F)(x)
        return x * 16.0


class Doubles(nnx.Module):
    """The same numbers from a loop that has no gradient."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        def turn(state):
            count, x = state
            return count - 1, 2.0 * x

        return jax.lax.while_loop(lambda state: state[0] > 0, turn, (4, self.dense(x)))[1]


def test_a_port_that_alone_has_no_gradients_is_different():
    found = verify(Pair(Plain(), lambda rngs: Doubles(rngs), X), samples=1)
    assert found.verdict == "different"
    checks = {check.name: check for check in found.checks}
    assert checks["forward"].status == "equal"
    assert checks["gradients"].note.startswith("only nnx has no gradients: Reverse-mode")


def test_a_map_is_found_through_a_loop():
    weights = find_weight_map(choices.LOOP)
    assert {(str(entry.linen), str(entry.nnx)) for entry in weights.entries} >= {
        ("params/step/kernel", "params/again/kernel")
    }


class Tokens(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.argmax(nn.Dense(F)(x), axis=-1)


class PortTokens(nnx.Module):
    def __init__(self, rngs, axis=-1):
        self.dense, self.axis = nnx.Linear(F, F, rngs=rngs), axis

    def __call__(self, x):
        return jnp.argmax(self.dense(x), axis=self.axis)


def test_outputs_that_are_whole_numbers():
    pair = Pair(Tokens(), lambda rngs: PortTokens(rngs), X)
    assert verify(pair, samples=1).verdict == "identical"
    wrong = dataclasses.replace(pair, nnx_call=lambda module, x: (module(x) + 1) % F)
    assert verify(wrong, samples=1).verdict == "different"


class Rare(nn.Module):
    """A mistake in it shows on some samples only."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(F)(x)
        return jnp.where(x > 1.0, x * x, x)


class PortRare(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        x = self.dense(x)
        return jnp.where(x > 1.0, jnp.exp(x), x)


def test_a_mistake_that_shows_on_the_last_sample_is_different():
    def inputs(key):
        # Large numbers come with the third key alone.
        large = jnp.all(jax.random.key_data(key) == jax.random.key_data(jax.random.key(2)))
        return (jnp.where(large, 10.0, 0.01) * jax.random.normal(key, X[0].shape),)

    found = verify(Pair(Rare(), lambda rngs: PortRare(rngs), inputs))
    assert found.verdict == "different"
    assert "jnp.exp(x)" in found.divergence.nnx.source


class Sorts(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(F)(x)
        return jax.pure_callback(lambda y: np.sort(y), x, x)


class PortSorts(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        x = self.dense(x)
        return jax.pure_callback(lambda y: np.sort(y)[:, ::-1].copy(), x, x)


def test_what_jax_does_not_see_is_not_taken_for_the_same():
    pair = Pair(Sorts(), lambda rngs: PortSorts(rngs), X)
    found = verify(pair, samples=1)
    assert found.verdict == "different"
    assert found.divergence.reason == "pure_callback: another callback"
    turned = dataclasses.replace(pair, nnx_output=lambda y: y[:, ::-1])
    assert verify(turned, samples=1).verdict == "equal"
