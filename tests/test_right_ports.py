"""Ports that are right, in forms that real ones have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES
from tests.ports import dense

F = 6
X = (jax.ShapeDtypeStruct((3, F), "float32"),)
TABLE = np.sin(np.arange(F, dtype=np.float32))


class Nested(nn.Module):
    """The outer layer of each call is made first, so it has the lower number."""

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = x + nn.Dense(F)(nn.relu(nn.Dense(F)(x)))
        return x


class PortNested(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(F, F, rngs=rngs) for _ in range(4)])

    def __call__(self, x):
        for i in (0, 2):
            x = x + self.layers[i + 1](nnx.relu(self.layers[i](x)))
        return x


class Positions(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(F)(x) + TABLE


class PortPositions(nnx.Module):
    """The table is a plain attribute of the module."""

    def __init__(self, rngs, table=lambda: TABLE):
        self.dense, self.table = nnx.Linear(F, F, rngs=rngs), table()

    def __call__(self, x):
        return self.dense(x) + self.table


class Special(nnx.Param):
    """A kind of parameter of one's own."""


class PortSpecial(nnx.Module):
    def __init__(self, rngs):
        self.kernel = Special(jnp.ones((F, F)))
        self.bias = Special(jnp.zeros(F))

    def __call__(self, x):
        return x @ self.kernel[...] + self.bias[...]


class Loss(nn.Module):
    """No loss is a Python number; what is cut off is minus infinity."""

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(F)(x)
        return jnp.where(y < 0.0, -jnp.inf, y), 0.0


class PortLoss(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        y = self.dense(x)
        return jnp.where(y >= 0.0, y, -jnp.inf), 0.0


class Sows(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("state", "count", lambda: jnp.zeros(()))
        count.value = count.value + 1.0
        y = nn.Dense(F)(x)
        self.sow("losses", "aux", jnp.sum(y**2))
        return y * count.value


class State(nnx.Variable):
    """What Linen has in `state`."""


class Losses(nnx.Variable):
    """What Linen has in `losses`."""


class PortSows(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.count = nnx.Linear(F, F, rngs=rngs), State(jnp.zeros(()))

    def __call__(self, x):
        self.count[...] = self.count[...] + 1.0
        y = self.dense(x)
        self.sow(Losses, "aux", jnp.sum(y**2))
        return y * self.count[...]


class Tower(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(F)(x)
        self.sow("losses", "aux", jnp.sum(y**2))
        return y


class Towers(nn.Module):
    @nn.compact
    def __call__(self, x):
        left = Tower(name="left")(x)
        return left - 2 * Tower(name="right")(x)


class PortTower(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        y = self.dense(x)
        self.sow(Losses, "aux", jnp.sum(y**2))
        return y


class PortTowers(nnx.Module):
    """The towers run in another order, so that their losses are sown in another order."""

    def __init__(self, rngs):
        self.a, self.b = PortTower(rngs), PortTower(rngs)

    def __call__(self, x):
        right = self.b(x)
        return self.a(x) - 2 * right


class Chooses(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(F)(x)
        return jax.lax.cond(jnp.sum(y) > 0, jnp.sin, jnp.cos, y)


class PortChooses(nnx.Module):
    """The same, the other way round."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        y = self.dense(x)
        return jax.lax.cond(jnp.sum(y) <= 0, jnp.cos, jnp.sin, y)


class Logarithm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(F)(jnp.log(x))


class PortLogarithm(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        return self.dense(jnp.log(x))


class Half(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(F, dtype=jnp.bfloat16)(x))
        return nn.Dense(F, dtype=jnp.bfloat16)(h).astype(jnp.float32)


class PortHalf(nnx.Module):
    """Sums in float32 what Linen sums in bfloat16; both return float32."""

    def __init__(self, rngs):
        self.a, self.b = (nnx.Linear(F, F, dtype=jnp.bfloat16, rngs=rngs) for _ in range(2))

    def __call__(self, x):
        h = jax.nn.relu(self.a(x))
        kernel, bias = (weight[...].astype(jnp.bfloat16) for weight in (self.b.kernel, self.b.bias))
        y = jnp.dot(h, kernel, preferred_element_type=jnp.float32) + bias
        return y.astype(jnp.bfloat16).astype(jnp.float32)


class Carries(nn.Module):
    """The carry of a cell is a pair."""

    @nn.compact
    def __call__(self, x):
        carry = self.variable("cache", "carry", lambda: (jnp.zeros(F), jnp.zeros(F)))
        h, c = carry.value
        c = nn.sigmoid(nn.Dense(F)(x[0])) * c + h
        carry.value = (jnp.tanh(c), c)
        return x + c


class PortCarries(nnx.Module):
    def __init__(self, rngs, swapped=False):
        self.dense = nnx.Linear(F, F, rngs=rngs)
        self.carry = nnx.Cache((jnp.zeros(F), jnp.zeros(F)))
        self.swapped = swapped

    def __call__(self, x):
        h, c = self.carry.get_value()
        c = nnx.sigmoid(self.dense(x[0])) * c + h
        self.carry.set_value((c, jnp.tanh(c)) if self.swapped else (jnp.tanh(c), c))
        return x + c


class Solves(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(F)(x)
        return jnp.linalg.solve(jnp.eye(F) + 0.1 * y.T @ y, x.T) * 2.0


class PortSolves(nnx.Module):
    """In another order, so that float64 has to decide on what only computes in float32."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        y = self.dense(x)
        return jnp.linalg.solve(0.1 * (y.T @ y) + jnp.eye(F), 2.0 * x.T)


PORTS = {
    "nested calls": (Nested(), PortNested),
    "a table of numpy": (Positions(), PortPositions),
    "a table of jax": (
        Positions(),
        lambda rngs: PortPositions(rngs, lambda: jnp.asarray(TABLE)),
    ),
    "a kind of parameter": (nn.Dense(F), PortSpecial),
    "a python number, minus infinity": (Loss(), PortLoss),
    "a sown loss beside a state": (Sows(), PortSows),
    "towers in another order": (Towers(), PortTowers),
    "branches in another order": (Chooses(), PortChooses),
    "half precision": (Half(), PortHalf),
    "a variable that Linen has not": (
        Positions(),
        lambda rngs: PortPositions(rngs, lambda: nnx.Variable(jnp.asarray(TABLE))),
    ),
    "a variable that holds a pair": (Carries(), PortCarries),
    "what computes in float32 alone": (Solves(), PortSolves),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", PORTS)
def test_a_right_port_passes(name):
    linen, build = PORTS[name]
    found = verify(Pair(linen, lambda rngs: build(rngs), X))
    assert found.verdict in PASSES, found


def test_a_pair_whose_parts_are_exchanged_is_different():
    pair = Pair(Carries(), lambda rngs: PortCarries(rngs, swapped=True), X)
    found = verify(pair, samples=1)
    assert found.verdict == "different"
    assert {row["linen"] for row in found.rows} >= {"cache/carry/0", "cache/carry/1"}


def test_a_table_with_other_numbers_is_different():
    wrong = Pair(Positions(), lambda rngs: PortPositions(rngs, lambda: 2 * TABLE), X)
    assert verify(wrong).verdict == "different"


def test_inputs_without_a_sign_keep_it():
    inputs = (np.abs(np.random.default_rng(0).standard_normal((3, F))).astype("f4"),)
    found = verify(Pair(Logarithm(), lambda rngs: PortLogarithm(rngs), inputs))
    assert found.verdict == "identical"
    assert found.remark == ""


def test_a_key_among_the_inputs():
    pair = Pair(
        nn.Dense(F),
        lambda rngs: PortSpecial(rngs),
        (*X, jax.random.key(0)),
        linen_call=lambda module, x, key: module(x),
        nnx_call=lambda module, x, key: module(x),
    )
    assert verify(pair, samples=1).verdict in PASSES


def test_a_constant_in_two_steps_is_no_mistake():
    def in_steps(x):
        return jnp.tanh(x / 3.0 / 7.0)

    def at_once(x):
        return jnp.tanh(x / 21.0)

    for pair in (dense.then(in_steps, at_once, X), dense.then(at_once, in_steps, X)):
        assert verify(pair).verdict in PASSES


class Heads(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(4)(x)


class PortHeads(nnx.Module):
    """Attention with its heads made of the results of square layers."""

    def __init__(self, rngs):
        self.query, self.key, self.value, self.out = (
            nnx.Linear(32, 32, rngs=rngs) for _ in range(4)
        )

    def __call__(self, x):
        q, k, v = (layer(x).reshape(8, 16, 4, 8) for layer in (self.query, self.key, self.value))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(8.0)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores), v)
        return self.out(mixed.reshape(8, 16, 32))


@pytest.mark.thorough
def test_a_gradient_of_zero_in_another_shape_is_decided_without_rounding():
    """The bias of keys has none: softmax cancels it. What float32 leaves of it is rounding."""
    inputs = (jax.ShapeDtypeStruct((8, 16, 32), "float32"),)
    found = verify(Pair(Heads(), lambda rngs: PortHeads(rngs), inputs))
    gradients = next(check for check in found.checks if check.name == "gradients")
    assert (found.verdict, gradients.note) == ("close", "in float64 equal to 1e-05")
    assert gradients.max_rel > 1e-2  # beyond the limits, of what is zero but for rounding
