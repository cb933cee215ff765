"""Mistakes that hide: in whole numbers, behind masks, in what is small, rare or not returned."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.errors import InputError
from shared.report.result import PASSES
from tests.ports import dense

F = 6
X = (jax.ShapeDtypeStruct((3, F), "float32"),)


def pair(linen, nnx, inputs=X, dtype=None):
    return dense.then(linen, nnx, inputs, dtype)


def masked(prior):
    def then(y):
        return jnp.where(jnp.arange(F) < 3, y + prior, -1e9)

    return then


def guarded(epsilon):
    return lambda y: y / jnp.maximum(jnp.linalg.norm(y, axis=-1, keepdims=True), epsilon)


def clipped(low):
    return lambda y: jnp.clip(y, low, 2)


def tiny_beside_large(factor):
    return lambda y: (1e6 * y, factor * jnp.tanh(y))


def nested_loops(counter):
    def then(y):
        def outer(state):
            i, y = state

            def inner(state):
                j, y = state
                return j + 1, y + jnp.float32(i if counter == "outer" else j)

            return i + 1, jax.lax.while_loop(lambda s: s[0] < 3, inner, (0, y))[1]

        return jax.lax.while_loop(lambda s: s[0] < 3, outer, (0, y))[1]

    return then


def narrow_norm(epsilon):
    def then(y):
        wide = y.astype(jnp.float32)
        return (y * jax.lax.rsqrt(jnp.mean(wide**2) + epsilon)).astype(y.dtype)

    return then


HIDDEN = {
    "a constant before a mask": (masked(0.5), masked(0.0)),
    "a guard against zero": (guarded(1e-3), guarded(1e-12)),
    "a limit that nothing reaches": (clipped(-20), clipped(-5)),
    "what is small beside another output": (tiny_beside_large(1.0), tiny_beside_large(1.1)),
    "the counter of another loop": (nested_loops("inner"), nested_loops("outer")),
    "a whole number": (
        lambda y: (y, jnp.argmax(y) + 1_000_000),
        lambda y: (y, jnp.argmax(y) + 1_000_002),
    ),
    "an imaginary part": (
        lambda y: jax.lax.complex(y, 2 * y),
        lambda y: jax.lax.complex(y, -2 * y),
    ),
    "a gradient that is reversed": (
        lambda y: (2 * y, jnp.where(jnp.arange(F) < 3, y, -1e9)),
        lambda y: (3 * jax.lax.stop_gradient(y) - y, jnp.where(jnp.arange(F) < 3, y, -1e9)),
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_hidden_mistake_is_found(name):
    linen, nnx = HIDDEN[name]
    assert verify(pair(linen, linen)).verdict in PASSES
    assert verify(pair(linen, nnx)).verdict == "different"


@pytest.mark.thorough
def test_an_epsilon_that_half_precision_rounds_away():
    right, wrong = narrow_norm(1e-6), narrow_norm(1e-5)
    assert verify(pair(right, right, dtype=jnp.bfloat16)).verdict == "identical"
    found = verify(pair(right, wrong, dtype=jnp.bfloat16))
    assert found.verdict == "different"
    assert found.divergence.reason == "add: 1e-06 in Linen, 1e-05 in NNX"


class Counts(nn.Module):
    """Weights of one byte, a counter, a mask and a complex weight, all used."""

    @nn.compact
    def __call__(self, x):
        q = self.variable("state", "q", lambda: jnp.ones((F, F), jnp.int8))
        step = self.variable("state", "step", lambda: jnp.zeros((), jnp.int32))
        keep = self.variable("state", "keep", lambda: jnp.ones((F,), bool))
        turn = self.param("turn", lambda key: jnp.ones((F,), jnp.complex64))
        y = x @ q.value.astype(jnp.float32)
        y = jnp.where(keep.value, y, 0) * jnp.exp(-0.1 * step.value)
        return y, jnp.real(y * turn)


class State(nnx.Variable):
    """What Linen has in the collection `state`."""


class PortCounts(nnx.Module):
    def __init__(self, rngs, wrong=""):
        self.q = State(jnp.ones((F, F), jnp.int8))
        self.step = State(jnp.zeros((), jnp.int32))
        self.keep = State(jnp.ones((F,), bool))
        self.turn = nnx.Param(jnp.ones((F,), jnp.complex64))
        self.wrong = wrong

    def __call__(self, x):
        q = self.q[...].T if self.wrong == "q" else self.q[...]
        y = x @ q.astype(jnp.float32)
        keep = ~self.keep[...] if self.wrong == "keep" else self.keep[...]
        y = jnp.where(keep, y, 0) * jnp.exp(
            -(0.5 if self.wrong == "step" else 0.1) * self.step[...]
        )
        turn = self.turn[...].conj() if self.wrong == "turn" else self.turn[...]
        return y, jnp.real(y * turn) if self.wrong != "turn" else jnp.real(y * 1j * turn)


@pytest.mark.parametrize("wrong", ["", "q", "step", "keep", "turn"])
def test_weights_that_are_no_floating_numbers_take_part(wrong):
    found = verify(Pair(Counts(), lambda rngs: PortCounts(rngs, wrong), X))
    assert (found.verdict == "different") == bool(wrong), found


class Decays(nnx.Module):
    """Changes a weight in the call; the first answer is right."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        y = self.dense(x)
        self.dense.kernel[...] *= 0.5
        return y


def test_a_port_that_changes_its_weights_is_different():
    found = verify(Pair(dense.Dense(lambda y: y), lambda rngs: Decays(rngs), X))
    assert found.verdict == "different"
    (updates,) = (check for check in found.checks if check.name == "updates")
    assert updates.note == "NNX changes weights in the call: params/dense/kernel"


def test_gradients_that_are_no_numbers_prove_nothing():
    def then(y):
        return jnp.sqrt(jnp.sum((0.0 * y) ** 2))

    found = verify(pair(lambda y: jnp.linalg.norm(0.0 * y), then))
    assert found.verdict == "undecided"


def test_models_that_return_nothing_are_refused():
    with pytest.raises(InputError, match="neither model returns anything to compare"):
        verify(pair(lambda y: None, lambda y: None))
    found = verify(pair(lambda y: y, lambda y: None))
    assert found.verdict == "different"
    assert "NNX returns nothing; is a return missing?" in found.checks[0].note


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.LayerNorm(epsilon=1e-6)(nn.Dense(16)(x)))


class PortNormed(nnx.Module):
    def __init__(self, epsilon, rngs):
        self.first, self.last = nnx.Linear(16, 16, rngs=rngs), nnx.Linear(16, 3, rngs=rngs)
        self.norm = nnx.LayerNorm(16, epsilon=epsilon, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(self.first(x)))


@pytest.mark.in_turn("epsilon")
@pytest.mark.parametrize("size", [0.5, 1, 2, 4, 8, 64])
@pytest.mark.parametrize("epsilon", [1e-5, 3e-6])
def test_another_epsilon_is_found_whatever_the_size_of_what_it_is_added_to(size, epsilon):
    def inputs(key):
        return (size * jax.random.normal(key, (2, 16)),)

    found = verify(Pair(Normed(), lambda rngs: PortNormed(epsilon, rngs), inputs))
    assert found.verdict == "different"
    assert found.divergence.reason == f"add: 1e-06 in Linen, {epsilon:g} in NNX"


class Gated(nn.Module):
    @nn.compact
    def __call__(self, x):
        gate = nn.Dense(5)(x)
        is_open = (gate > 0).astype(x.dtype)
        return nn.Dense(3)(x * gate * is_open)


class GatedPort(nnx.Module):
    """Stops the gradient of a comparison, which has none, and `stops` another one."""

    def __init__(self, stops, rngs):
        self.gate, self.head = nnx.Linear(5, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)
        self.stops = stops

    def __call__(self, x):
        gate = self.gate(x)
        is_open = jax.lax.stop_gradient((gate > 0).astype(x.dtype))
        if self.stops:
            gate = jax.lax.stop_gradient(gate)
        return self.head(x * gate * is_open)


@pytest.mark.parametrize("stops", [False, True])
def test_a_stop_that_stops_nothing_is_not_blamed(stops):
    x = (jax.ShapeDtypeStruct((3, 5), "float32"),)
    found = verify(Pair(Gated(), lambda rngs: GatedPort(stops, rngs), x), samples=1)
    assert (found.verdict in PASSES) != stops
    if stops:
        assert found.divergence.nnx.source == "gate = jax.lax.stop_gradient(gate)"


class Quantised(nn.Module):
    """The gradient goes around what has none."""

    step: str = "sign"

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(5)(x)
        q = h + jax.lax.stop_gradient(getattr(jnp, self.step)(h) - h)
        return nn.Dense(3)(q)


class QuantisedPort(nnx.Module):
    def __init__(self, step, around, rngs):
        self.hidden, self.head = nnx.Linear(5, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)
        self.step, self.around = step, around

    def __call__(self, x):
        h = self.hidden(x)
        if self.around:
            return self.head(h + jax.lax.stop_gradient(getattr(jnp, self.step)(h) - h))
        q = getattr(jnp, self.step)(h)
        return self.head(q)


@pytest.mark.parametrize("step", ["sign", "round"])
def test_a_gradient_that_is_not_led_around_a_step_is_named_at_the_step(step):
    x = (jax.ShapeDtypeStruct((3, 5), "float32"),)
    pairs = [
        Pair(Quantised(step), lambda rngs, around=around: QuantisedPort(step, around, rngs), x)
        for around in (True, False)
    ]
    assert verify(pairs[0], samples=1).verdict in PASSES
    found = verify(pairs[1], samples=1)
    assert found.divergence.linen.source.startswith("q = h + jax.lax.stop_gradient(")
    assert found.divergence.nnx.source == "q = getattr(jnp, self.step)(h)"
