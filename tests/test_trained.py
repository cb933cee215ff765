"""What Linen trains is trained in the port, and nothing else is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, find_weight_map, verify
from shared.report.result import PASSES, DifferentError

D = 5
X = (jax.ShapeDtypeStruct((3, D), "float32"),)


class Model(nn.Module):
    """A scale that is trained, and a table that is not."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (D,))
        table = self.variable("tables", "rates", lambda: jnp.linspace(1.0, 2.0, D))
        return nn.Dense(2)(x * scale + table.value)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.scale = nnx.Param(jnp.ones(D))
        self.rates = nnx.Variable(jnp.linspace(1.0, 2.0, D))
        self.head = nnx.Linear(D, 2, rngs=rngs)

    def __call__(self, x):
        x = x * jnp.asarray(self.scale)
        return self.head(x + jnp.asarray(self.rates))


class Scale(nnx.Param):
    """A kind of param of one's own."""


class Own(Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.scale = Scale(jnp.ones(D))


class Table(Port):
    """The table is a plain array."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.rates = jnp.linspace(1.0, 2.0, D)


class Variable(Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.scale = nnx.Variable(jax.random.normal(rngs.params(), (D,)))


class Statistic(Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.scale = nnx.BatchStat(jnp.ones(D))


class Array(Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.scale = jnp.ones(D)


class Constant(Array):
    """No variable of the port is other than a param: nothing says that the scale is a weight."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.rates = np.linspace(1.0, 2.0, D, dtype=np.float32)


class TrainedTable(Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.rates = nnx.Param(jnp.linspace(1.0, 2.0, D))


def pair(port, model=Model, **weight_map):
    return Pair(model(), lambda rngs: port(rngs), X, weight_map=weight_map)


UNTRAINED = "in NNX, Linen has params/scale: nothing trains it"
SAID = {
    Variable: f"scale is an nnx.Variable {UNTRAINED}",
    Statistic: f"scale is an nnx.BatchStat {UNTRAINED}",
    Array: f"scale is a plain array {UNTRAINED}",
    Constant: f"scale is a plain array {UNTRAINED}",
    TrainedTable: "rates is an nnx.Param in NNX, Linen has tables/rates: it is trained in NNX",
}


@pytest.mark.parametrize("port", SAID)
def test_what_one_side_alone_trains_is_named(port):
    found = verify(pair(port), checks=("structure",))
    assert (found.verdict, found.remark) == ("different", SAID[port])
    assert (found.unmatched_linen, found.unmatched_nnx) == ([], [])
    name = "rates" if port is TrainedTable else "scale"
    assert f"self.{name}" in found.divergence.nnx.source
    assert name[:4] in found.divergence.linen.source.replace("table", "rate")


@pytest.mark.parametrize("port", [Port, Own, Table])
def test_what_both_train_is_equal(port):
    found = verify(pair(port), checks=("programs", "forward", "updates"), samples=1)
    assert (found.verdict in PASSES, found.remark) == (True, "")


def test_no_map_makes_a_param_of_what_is_not_trained():
    for port in (Variable, Statistic, Array, TrainedTable):
        with pytest.raises(DifferentError, match=r"params/scale|tables/rates"):
            find_weight_map(pair(port))


def test_a_pin_says_that_it_is_meant():
    pinned = pair(Variable, **{"params/scale": "Variable/scale"})
    assert verify(pinned, checks=("forward",), samples=1).verdict in PASSES


class OneNumber(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x * self.param("scale", nn.initializers.ones, ()))


class Overwritten(nnx.Module):
    """The attribute has held a variable: for NNX its number is data then."""

    def __init__(self, rngs):
        self.scale = nnx.Param(jnp.ones(()))
        self.head = nnx.Linear(D, 2, rngs=rngs)
        self.scale = 1.0

    def __call__(self, x):
        return self.head(x * self.scale)


def test_a_param_that_is_overwritten_by_a_number_is_named():
    found = verify(pair(Overwritten, OneNumber), checks=("structure",))
    said = f"scale is a plain array {UNTRAINED}"
    assert (found.verdict, found.remark) == ("different", said)


class Layers(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(5):
            x = nn.tanh(x * self.param(f"scale{i}", nn.initializers.ones, (D,)))
        return nn.Dense(2)(x)


class LayersPort(nnx.Module):
    def __init__(self, rngs):
        self.scales = nnx.List([nnx.Variable(jnp.ones(D)) for _ in range(5)])
        self.head = nnx.Linear(D, 2, rngs=rngs)

    def __call__(self, x):
        for scale in self.scales:
            x = jnp.tanh(x * scale[...])
        return self.head(x)


def test_of_many_layers_some_are_named():
    found = verify(pair(LayersPort, Layers), checks=("structure",))
    assert found.remark.count("nothing trains it") == 3
    assert found.remark.endswith("; so are 2 more")


class Counter(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("counts", "calls", lambda: jnp.zeros(D))
        count.value += 1
        return x * count.value


class CounterPort(nnx.Module):
    """An array that the call replaces; the first answer is right."""

    step = 1

    def __init__(self, rngs):
        self.calls = jnp.zeros(D)

    def __call__(self, x):
        y = x * (self.calls + 1)
        self.calls = self.calls + self.step
        return y


class StuckPort(CounterPort):
    step = 0


def test_an_array_that_the_call_replaces_is_compared():
    checks = ("forward", "updates")
    assert verify(pair(CounterPort, Counter), checks, samples=1).verdict in PASSES
    found = verify(pair(StuckPort, Counter), checks, samples=1)
    assert {check.name: check.status for check in found.checks}["updates"] == "different"
