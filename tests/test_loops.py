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


class CountedLinen(nn.Module):
    """A layer that is applied four times, from zero on."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (D, D))

        def turn(i, y):
            y = jnp.tanh(y @ kernel)
            return 0.5 * y + 0.5 * x

        return jax.lax.fori_loop(0, 4, turn, jnp.zeros_like(x))


class CountedPort(nnx.Module):
    def __init__(self, loop, rngs):
        self.layer = nnx.Linear(D, D, use_bias=False, rngs=rngs)
        self.loop = loop

    def __call__(self, x):
        def turn(i, y):
            y = nnx.tanh(self.layer(y))
            return 0.5 * y + 0.5 * x

        return self.loop(turn, x)


class MaskedPort(CountedPort):
    """What the first turn takes of outside of the loop is no start of it."""

    def __call__(self, x):
        def turn(i, y):
            y = nnx.tanh(self.layer(y))
            return 0.5 * y + 0.5 * jnp.abs(x)

        return self.loop(turn, x)


def as_it_is(turn, x):
    return jax.lax.fori_loop(0, 4, turn, jnp.zeros_like(x))


def a_turn_more(turn, x):
    return jax.lax.fori_loop(0, 5, turn, jnp.zeros_like(x))


def a_turn_less(turn, x):
    return jax.lax.fori_loop(0, 3, turn, jnp.zeros_like(x))


def from_one(turn, x):
    return jax.lax.fori_loop(1, 4, turn, jnp.zeros_like(x))


def from_the_input(turn, x):
    return jax.lax.fori_loop(0, 4, turn, x)


def scanned_a_turn_more(turn, x):
    return jax.lax.scan(lambda y, i: (turn(i, y), None), jnp.zeros_like(x), jnp.arange(5))[0]


def counted(loop, port=CountedPort):
    x = (jax.ShapeDtypeStruct((3, D), "float32"),)
    return verify(Pair(CountedLinen(), lambda rngs: port(loop, rngs), x), ("forward",), samples=1)


def test_a_loop_that_is_counted_passes():
    assert counted(as_it_is).verdict in PASSES


@pytest.mark.parametrize(
    "loop", [a_turn_more, a_turn_less, from_one, from_the_input, scanned_a_turn_more]
)
def test_what_a_loop_is_told_is_named_where_it_is_told(loop):
    found = counted(loop)
    assert found.verdict == "different"
    where = "jax.lax.fori_loop(0, 4, turn, jnp.zeros_like(x))"
    assert found.divergence.linen.source == f"return {where}"
    assert found.divergence.nnx.source.startswith("return jax.lax.")
    assert ("more turns" in found.divergence.reason) == (loop is not from_the_input)


def test_a_mistake_in_a_turn_is_named_in_it():
    found = counted(as_it_is, MaskedPort)
    assert found.divergence.linen.source == "return 0.5 * y + 0.5 * x"
    assert found.divergence.nnx.source == "return 0.5 * y + 0.5 * jnp.abs(x)"


class BesideLinen(nn.Module):
    """Each turn adds the input; what is made of it beside is added at the end."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (D, D))
        beside = jnp.sin(x)

        def turn(i, y):
            y = jnp.tanh(y @ kernel)
            return y + x

        return jax.lax.fori_loop(0, 4, turn, x) + beside


class BesidePort(CountedPort):
    def __call__(self, x):
        beside = jnp.sin(x)

        def turn(i, y):
            y = nnx.tanh(self.layer(y))
            return y + beside

        return self.loop(turn, x) + beside


def test_what_every_turn_takes_is_no_start_of_the_loop():
    x = (jax.ShapeDtypeStruct((3, D), "float32"),)
    pair = Pair(BesideLinen(), lambda rngs: BesidePort(from_the_input, rngs), x)
    found = verify(pair, ("forward",), samples=1)
    assert found.divergence.linen.source == "return y + x"
    assert found.divergence.nnx.source == "return y + beside"
