"""A mistake inside of a `while` is named inside of it, whichever turn shows it."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES

D = 4


def inputs(key):
    """(3, D) and the number of turns."""
    return jax.random.normal(key, (3, D)), jnp.int32(3)


def linen_goes_on(module, state):
    return state[0] < state[2]


class Linen(nn.Module):
    """A layer that is applied n times, what it makes growing with the turn."""

    @nn.compact
    def __call__(self, x, n):
        layer = nn.Dense(D)
        if self.is_initializing():
            return layer(x)

        def turn(module, state):
            count, y, n = state
            y = nn.tanh(module(y)) + x
            y = y * (1.0 + count)
            return count + 1, y, n

        return nn.while_loop(linen_goes_on, turn, layer, (0, x, n))[1]


class Port(nnx.Module):
    """The same, of a condition and of what becomes of the layer's result."""

    def __init__(self, goes_on, grown, start, rngs):
        self.layer = nnx.Linear(D, D, rngs=rngs)
        self.goes_on, self.grown, self.start = goes_on, grown, start

    def __call__(self, x, n):
        def turn(state):
            count, y, layer = state
            y, count = self.grown(nnx.tanh(layer(y)), x, count)
            return count, y, layer

        goes_on = lambda state: self.goes_on(state[0], n)  # noqa: E731
        return nnx.while_loop(goes_on, turn, (self.start, x, self.layer))[1]


def before(count, n):
    return count < n


def up_to(count, n):
    return count <= n


def grown(y, x, count):
    y = (y + x) * (1.0 + count)
    return y, count + 1


def grown_twice(y, x, count):
    y = (y + x) * (1.0 + 2.0 * count)
    return y, count + 1


def not_grown(y, x, count):
    y = y + x
    return y, count + 1


def counted_twice(y, x, count):
    y = (y + x) * (1.0 + count)
    count = count + 2
    return y, count


def found(goes_on, grown, start=0):
    pair = Pair(Linen(), lambda rngs: Port(goes_on, grown, start, rngs), inputs)
    return verify(pair, samples=1, checks=("forward",))


def test_the_loop_itself_passes():
    assert found(before, grown).verdict in PASSES


@pytest.mark.parametrize(
    ("goes_on", "grown", "start", "linen", "nnx"),
    [
        (up_to, grown, 0, "return state[0] < state[2]", "return count <= n"),
        (before, grown_twice, 0, "y = y * (1.0 + count)", "y = (y + x) * (1.0 + 2.0 * count)"),
        (before, not_grown, 0, "y = y * (1.0 + count)", "y = y + x"),
        (before, counted_twice, 0, "return count + 1, y, n", "count = count + 2"),
        (before, grown, 1, "return nn.while_loop(linen_goes_on", "return nnx.while_loop(goes_on"),
    ],
)
def test_a_mistake_in_a_loop_is_named_in_it(goes_on, grown, start, linen, nnx):
    said = found(goes_on, grown, start)
    assert said.verdict == "different"
    assert said.divergence.linen.source.startswith(linen)
    assert said.divergence.nnx.source.startswith(nnx)


def drawn_each_turn(key, x, splits):
    def turn(state):
        count, y, key = state
        if splits:
            key, own = jax.random.split(key)
        else:
            own = jax.random.fold_in(key, count)
        return count + 1, y + jax.random.normal(own, y.shape), key

    return jax.lax.while_loop(lambda state: state[0] < 3, turn, (0, x, key))[1]


class DrawnLinen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(D)(drawn_each_turn(self.make_rng("noise"), x, splits=True))


class DrawnPort(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.rngs = nnx.Linear(D, D, rngs=rngs), rngs.fork()

    def __call__(self, x):
        return self.dense(drawn_each_turn(self.rngs.noise(), x, splits=False))


def test_keys_that_a_loop_makes_in_two_ways_are_two_and_the_loop_is_named():
    x = (jax.ShapeDtypeStruct((2, D), "float32"),)
    found = verify(
        Pair(DrawnLinen(), lambda rngs: DrawnPort(rngs), x, streams=("noise",)),
        checks=("forward",),
    )
    assert found.verdict == "different"
    assert found.divergence.linen.line == found.divergence.nnx.line
    assert found.divergence.linen.op.startswith("while ")
