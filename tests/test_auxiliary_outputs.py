"""What a call leaves besides its outputs: statistics, caches, sown values; stacked or not."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify

pytestmark = pytest.mark.optimized

F, N = 4, 3
INPUTS = (jax.ShapeDtypeStruct((5, F), "float32"),)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        x = nn.tanh(nn.BatchNorm(use_running_average=False, momentum=0.9)(nn.Dense(F)(x)))
        self.sow("intermediates", "hidden", x)
        loss = jnp.sum(x * x)
        self.sow("losses", "l2", loss, reduce_fn=jnp.add, init_fn=lambda: 0.0)
        return x, None


class Scanned(nn.Module):
    axis: int = 0

    @nn.compact
    def __call__(self, x):
        axes = dict.fromkeys(("params", "batch_stats", "losses", "intermediates"), self.axis)
        axes["losses"] = 0
        scan = nn.scan(Layer, variable_axes=axes, split_rngs={"params": True}, length=N)
        return scan()(x, None)[0]


class Loop(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(N):
            x, _ = Layer()(x)
        return x


class Loss(nnx.Variable):
    """What Linen has in the collection `losses`."""


class PortLayer(nnx.Module):
    def __init__(self, rngs, momentum=0.9, loss=lambda x: jnp.sum(x * x), sows=True):
        self.dense = nnx.Linear(F, F, rngs=rngs)
        self.norm = nnx.BatchNorm(F, momentum=momentum, rngs=rngs)
        self.loss, self.sows = loss, sows

    def __call__(self, x):
        x = nnx.tanh(self.norm(self.dense(x)))
        self.sow(nnx.Intermediate, "hidden", x)
        if self.sows:
            self.sow(Loss, "l2", self.loss(x), reduce_fn=jnp.add, init_fn=lambda: 0.0)
        return x


class Port(nnx.Module):
    def __init__(self, rngs, **options):
        self.layers = nnx.List([PortLayer(rngs, **options) for _ in range(N)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class PortScan(nnx.Module):
    def __init__(self, rngs, **options):
        self.layers = nnx.vmap(lambda rngs: PortLayer(rngs, **options))(rngs.split(N))

    def __call__(self, x):
        def apply(x, layer):
            return layer(x)

        return nnx.scan(apply, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers)


def pair(model, port=Port, **options):
    return Pair(model, lambda rngs: port(rngs, **options), INPUTS)


@pytest.mark.quick("scan-scanned")
@pytest.mark.parametrize("port", [Port, PortScan], ids=["list", "scanned"])
@pytest.mark.parametrize("model", [Scanned(), Scanned(1), Loop()], ids=["scan", "axis 1", "loop"])
def test_statistics_and_sown_values_are_compared_layer_by_layer(model, port):
    found = verify(pair(model, port), samples=1)
    (updates,) = (check for check in found.checks if check.name == "updates")
    if isinstance(model, Loop) == (port is Port):
        assert (found.verdict, updates.status) == ("identical", "equal")
    else:
        # The gradient of a loss in a scan is added at another place of the sum.
        assert found.verdict == "close"
        assert updates.status in ("equal", "close")
    assert "not compared" not in updates.note


@pytest.mark.thorough
@pytest.mark.parametrize("port", [Port, PortScan], ids=["list", "scanned"])
@pytest.mark.parametrize("model", [Scanned(), Loop()], ids=["scan", "loop"])
def test_a_loss_whose_gradient_is_stopped_is_found(model, port):
    stopped = pair(model, port, loss=lambda x: jnp.sum(jax.lax.stop_gradient(x) * x))
    found = verify(stopped, samples=1)
    assert found.verdict == "different"
    failed = {check.name for check in found.checks if check.status == "different"}
    assert failed == {"gradients", "training"}
    assert "jax.lax.stop_gradient(x)" in found.divergence.nnx.source


@pytest.mark.quick("loop")
@pytest.mark.parametrize("model", [Scanned(), Loop()], ids=["scan", "loop"])
def test_a_wrong_momentum_is_found_in_the_statistics(model):
    found = verify(pair(model, momentum=0.99), samples=1)
    assert found.verdict == "different"
    assert "nn.BatchNorm" in found.divergence.linen.source
    assert "self.norm" in found.divergence.nnx.source


@pytest.mark.quick("loop")
@pytest.mark.parametrize("model", [Scanned(), Loop()], ids=["scan", "loop"])
def test_a_wrong_sown_value_is_found(model):
    found = verify(pair(model, loss=lambda x: 2.0 * jnp.sum(x * x)), samples=1)
    assert found.verdict == "different"
    assert "self.sow" in found.divergence.linen.source or "loss" in found.divergence.linen.source
    assert "2.0 * jnp.sum" in found.divergence.nnx.source


@pytest.mark.thorough
def test_a_loss_that_the_port_does_not_return_is_a_difference():
    found = verify(pair(Scanned(), sows=False), samples=1)
    assert found.verdict == "different"
    (updates,) = (check for check in found.checks if check.name == "updates")
    assert updates.note == "only Linen returns losses/ScanLayer_0/l2"


def test_a_lost_loss_is_no_identical_program():
    found = verify(pair(Loop(), sows=False), checks=("structure", "programs"))
    assert found.verdict == "undecided"
    (programs,) = (check for check in found.checks if check.name == "programs")
    assert "losses" in programs.note
