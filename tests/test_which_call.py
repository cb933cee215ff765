"""Of a function that is called more than once, the call that differs is named."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES

D = 4
INPUTS = (jax.ShapeDtypeStruct((5, D), "float32"), jax.ShapeDtypeStruct((5,), "float32"))


def total(x):
    return jnp.sum(x, axis=0)


class Mean(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        h = nn.Dense(D)(x) * mask[:, None]
        above = total(h)
        below = total(mask)
        return nn.Dense(2)(above / (below + 1.0))


def count(x, h, mask):
    below = total(mask)
    return below


def another_input(x, h, mask):
    below = total(x[:, 0])
    return below


def another_operation(x, h, mask):
    below = total(mask * mask)
    return below


def what_is_made_before(x, h, mask):
    below = total(h)
    return below


def twice(x, h, mask):
    below = total(x).sum()
    return below


class Port(nnx.Module):
    def __init__(self, count, rngs):
        self.hidden, self.out = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, 2, rngs=rngs)
        self.count = count

    def __call__(self, x, mask):
        h = self.hidden(x) * mask[:, None]
        above = total(h)
        return self.out(above / (self.count(x, h, mask) + 1.0))


def pair(count):
    """With a call in between on both sides, as where arguments are named."""
    return Pair(
        Mean(),
        lambda rngs: Port(count, rngs),
        INPUTS,
        linen_call=lambda module, x, mask: module(x, mask=mask),
        nnx_call=lambda module, x, mask: module(x, mask=mask),
    )


def found(port):
    return verify(pair(port), samples=1, checks=("forward",))


def test_the_port_without_a_mistake_passes():
    assert found(count).verdict in PASSES


@pytest.mark.parametrize(
    ("port", "line"),
    [
        (another_input, "below = total(x[:, 0])"),
        (another_operation, "below = total(mask * mask)"),
        (what_is_made_before, "below = total(h)"),
        (twice, "below = total(x).sum()"),
    ],
)
def test_the_call_that_differs_is_named(port, line):
    said = found(port)
    assert said.verdict == "different"
    assert said.divergence.linen.source == "below = total(mask)"
    assert said.divergence.nnx.source.startswith(line)


class Counted(Mean):
    @nn.compact
    def __call__(self, x, mask):
        h = nn.Dense(D)(x) * mask[:, None]
        above = total(h)
        below = total(above * 0 + 1.0)
        return nn.Dense(2)(above / (below + 1.0))


def test_an_input_that_one_side_takes_is_named_where_it_is_taken():
    given = {"samples": 1, "checks": ("forward",)}
    port = pair(count)
    said = verify(
        Pair(Counted(), port.nnx, INPUTS, linen_call=port.linen_call, nnx_call=port.nnx_call),
        **given,
    )
    assert said.divergence.linen.source == "below = total(above * 0 + 1.0)"
    assert said.divergence.nnx.source == "below = total(mask)"


class Towers(nn.Module):
    @nn.compact
    def __call__(self, a, b):
        tower = nn.Sequential([nn.Dense(6), nn.relu, nn.Dense(D)], name="tower")
        left = tower(a)
        right = tower(b)
        return nn.softmax(left @ right.T)


class Tower(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(D, 6, rngs=rngs), nnx.Linear(6, D, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.first(x))
        return self.second(h)


class PortOfTowers(nnx.Module):
    def __init__(self, second, rngs):
        self.tower, self.second = Tower(rngs), second

    def __call__(self, a, b):
        one = self.tower(a)
        other = self.tower(self.second(a, b))
        return nnx.softmax(jnp.einsum("id,jd->ij", one, other))


@pytest.mark.quick("False")
@pytest.mark.parametrize("is_right", [True, False])
def test_a_function_that_is_called_twice_with_one_value_is_named_at_the_second_call(is_right):
    inputs = (jax.ShapeDtypeStruct((5, D), "float32"),) * 2
    second = (lambda a, b: b) if is_right else (lambda a, b: a)
    said = verify(Pair(Towers(), lambda rngs: PortOfTowers(second, rngs), inputs), samples=1)
    if is_right:
        assert said.verdict in PASSES
        return
    assert said.verdict == "different"
    assert said.divergence.linen.source == "right = tower(b)"
    assert said.divergence.nnx.source == "other = self.tower(self.second(a, b))"
