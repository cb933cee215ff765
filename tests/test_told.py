"""What a lift is told is named where it is told, and not where what it returns is called."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES

D, N = 4, 3
X = (jax.ShapeDtypeStruct((2, D), "float32"),)
AXES = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": N}


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.tanh(nn.Dense(D)(x)), None


class Inside(nn.Module):
    reverse: bool = False

    @nn.compact
    def __call__(self, x):
        stack = nn.scan(
            Layer,
            reverse=self.reverse,
            **AXES,
        )
        x = stack(name="layers")(x, None)[0]
        return x


class InSetup(nn.Module):
    def setup(self):
        self.layers = nn.scan(Layer, reverse=True, **AXES)()

    def __call__(self, x):
        x, _ = self.layers(x, None)
        return x


@functools.partial(nn.scan, reverse=True, **AXES)
class Decorated(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.tanh(nn.Dense(D)(x)), None


class OfDecorated(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, _ = Decorated(name="layers")(x, None)
        return x


class Port(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.vmap(lambda rngs: nnx.Linear(D, D, rngs=rngs))(rngs.split(N))
        self.sweep = nnx.scan(step, in_axes=CARRY_0, out_axes=nnx.Carry, reverse=True)


CARRY_0 = (nnx.Carry, 0)


def step(x, layer):
    return nnx.tanh(layer(x))


@nnx.scan(in_axes=CARRY_0, out_axes=nnx.Carry)
def forwards(x, layer):
    return step(x, layer)


@functools.partial(nnx.scan, in_axes=CARRY_0, out_axes=nnx.Carry, reverse=True)
def backwards(x, layer):
    return step(x, layer)


class Right(Port):
    def __call__(self, x):
        return forwards(x, self.layers)


class PortOfDecorated(Port):
    def __call__(self, x):
        return backwards(x, self.layers)


class PortInline(Port):
    def __call__(self, x):
        sweep = nnx.scan(
            step,
            in_axes=CARRY_0,
            out_axes=nnx.Carry,
            reverse=True,
        )
        x = x + 0.0
        return sweep(x, self.layers)


class PortInInit(Port):
    def __call__(self, x):
        return self.sweep(x, self.layers)


class PortOfArrays(Port):
    def __call__(self, x):
        graph, state = nnx.split(self.layers)
        x, _ = jax.lax.scan(
            lambda x, state: (step(x, nnx.merge(graph, state)), None),
            x,
            state,
            reverse=True,
        )
        return x


def found(linen, port):
    return verify(Pair(linen, lambda rngs: port(rngs), X), samples=1, checks=("forward",))


def test_layers_in_one_order_pass():
    assert found(Inside(), Right).verdict in PASSES
    assert found(Inside(reverse=True), PortOfDecorated).verdict in PASSES


@pytest.mark.parametrize(
    ("linen", "port", "linen_line", "nnx_line"),
    [
        (Inside(), PortOfDecorated, "reverse=self.reverse,", "@functools.partial(nnx.scan, in"),
        (Inside(), PortInline, "reverse=self.reverse,", "reverse=True,"),
        (Inside(), PortInInit, "reverse=self.reverse,", "self.sweep = nnx.scan(step, in_axes"),
        (Inside(), PortOfArrays, "reverse=self.reverse,", "reverse=True,"),
        (InSetup(), Right, "self.layers = nn.scan(Layer, reverse=True", "@nnx.scan(in_axes=CARRY"),
        (OfDecorated(), Right, "@functools.partial(nn.scan, reverse=True", "@nnx.scan(in_axes="),
    ],
)
def test_a_direction_is_named_where_it_is_told(linen, port, linen_line, nnx_line):
    said = found(linen, port)
    assert said.verdict == "different"
    assert said.divergence.linen.source.startswith(linen_line)
    assert said.divergence.nnx.source.startswith(nnx_line)


SQUARE = (jax.ShapeDtypeStruct((D, D, D), "float32"),)


class Mixed(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(D)(x)
        y = jax.vmap(lambda y: nn.softmax(y, axis=0), in_axes=1, out_axes=1)(y)
        y = nn.tanh(y)
        return nn.Dense(D)(y)


class PortMixed(nnx.Module):
    def __init__(self, axis, rngs):
        self.first, self.last = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)
        self.axis = axis

    def __call__(self, x):
        mix = nnx.vmap(
            lambda layer, x: nnx.softmax(layer(x), axis=0),
            in_axes=(None, 1),
            out_axes=self.axis,
        )
        y = mix(self.first, x)
        y = nnx.tanh(y)
        return self.last(y)


def test_an_axis_is_named_where_it_is_told():
    def mixed(axis):
        pair = Pair(Mixed(), lambda rngs: PortMixed(axis, rngs), SQUARE)
        return verify(pair, samples=1, checks=("forward",))

    assert mixed(1).verdict in PASSES
    said = mixed(0)
    assert said.divergence.linen.source.startswith("y = jax.vmap(lambda y: nn.softmax(y")
    assert said.divergence.nnx.source == "out_axes=self.axis,"


class Cell(nn.Module):
    @nn.compact
    def __call__(self, h, x):
        h = nn.tanh(nn.Dense(D)(x) + h)
        return h, h


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        scan = nn.scan(Cell, variable_broadcast="params", split_rngs={"params": False})
        _, y = scan()(jnp.zeros(D), x)
        return y


class PortRecurrent(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(None, nnx.Carry, 0), out_axes=(nnx.Carry, 0), reverse=True)
        def run(layer, h, x):
            h = nnx.tanh(layer(x) + h)
            return h, h

        _, y = run(self.layer, jnp.zeros(D), x)
        return y


def test_the_direction_of_time_is_named_where_it_is_told():
    said = found(Recurrent(), PortRecurrent)
    assert said.verdict == "different"
    assert said.divergence.linen.source.startswith("scan = nn.scan(Cell")
    assert said.divergence.nnx.source.startswith("@nnx.scan(in_axes=(None, nnx.Carry, 0)")


class Recurrence(nn.Module):
    @nn.compact
    def __call__(self, x):
        def turn(h, at):
            h = at[0] * h + at[1]
            return h, h

        kept, added = nn.sigmoid(nn.Dense(D)(x)), nn.Dense(D)(x) * x
        _, ys = jax.lax.scan(turn, jnp.zeros(D), (kept, added))
        return nn.Dense(3)(ys)


class PortByNumber(nnx.Module):
    """Takes the rows by their number, and multiplies them in the turn."""

    def __init__(self, rngs, reverse, wrong):
        self.kept, self.added = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)
        self.head = nnx.Linear(D, 3, rngs=rngs)
        self.reverse, self.wrong = reverse, wrong

    def __call__(self, x):
        kept, added = nnx.sigmoid(self.kept(x)), self.added(x)

        def turn(h, t):
            h = kept[t] * h + added[t] * (jnp.abs(x[t]) if self.wrong else x[t])
            return h, h

        _, ys = jax.lax.scan(turn, jnp.zeros(D), jnp.arange(len(x)), reverse=self.reverse)
        return self.head(ys)


@pytest.mark.parametrize(
    ("reverse", "wrong", "lines"),
    [
        (True, False, ("_, ys = jax.lax.scan(turn, ", "_, ys = jax.lax.scan(turn, ")),
        (False, True, ("kept, added = nn.sigmoid(", "h = kept[t] * h + added[t]")),
    ],
    ids=["reversed", "in the turn"],
)
def test_a_recurrence_by_number_is_named_where_it_is_wrong(reverse, wrong, lines):
    x = (jax.ShapeDtypeStruct((5, D), "float32"),)

    def checked(reverse, wrong):
        pair = Pair(Recurrence(), lambda rngs: PortByNumber(rngs, reverse, wrong), x)
        return verify(pair, samples=1, checks=("forward",))

    assert checked(False, False).verdict in PASSES
    result = checked(reverse, wrong)
    assert result.verdict == "different"
    named = (result.divergence.linen.source, result.divergence.nnx.source)
    for source, line in zip(named, lines, strict=True):
        assert line in source
