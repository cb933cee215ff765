"""A loss that layers sow and the call returns: lost on the way, on one side alone."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES

D = 4
X = (jax.ShapeDtypeStruct((3, D), "float32"),)
CHECKS = ("structure", "forward")


class Loss(nnx.Variable):
    pass


class Routed(nn.Module):
    @nn.compact
    def __call__(self, x):
        scores = nn.Dense(D, name="router")(x)
        self.sow("losses", "balance", jnp.sum(nn.softmax(scores).mean(0) ** 2))
        self.sow("losses", "z", 1e-3 * jnp.mean(nn.logsumexp(scores, -1) ** 2))
        return x + nn.tanh(scores)


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(2):
            x = Routed(name=f"layer_{i}")(x)
        return x


class PortOfRouted(nnx.Module):
    def __init__(self, sows_z, rngs):
        self.router, self.sows_z = nnx.Linear(D, D, rngs=rngs), sows_z

    def __call__(self, x):
        scores = self.router(x)
        self.sow(Loss, "balance", jnp.sum(nnx.softmax(scores).mean(0) ** 2))
        z = jax.scipy.special.logsumexp(scores, axis=-1)
        if self.sows_z:
            self.sow(Loss, "z", 1e-3 * jnp.mean(z**2))
        return x + nnx.tanh(scores)


class Port(nnx.Module):
    def __init__(self, rngs, sows_z=True):
        self.layers = nnx.List([PortOfRouted(sows_z, rngs) for _ in range(2)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def linen_losses(module, x):
    y, variables = module(x), module.variables.get("losses", {})
    return y, sum(map(jnp.sum, jax.tree.leaves(variables)))


def losses(module, x):
    y = module(x)
    variables = nnx.pop(module, Loss)
    return y, sum(map(jnp.sum, jax.tree.leaves(variables)))


def of_another_kind(module, x):
    y = module(x)
    variables = nnx.pop(module, nnx.Intermediate)
    return y, sum(map(jnp.sum, jax.tree.leaves(variables)))


def before_the_call(module, x):
    variables = nnx.pop(module, Loss)
    y = module(x)
    return y, sum(map(jnp.sum, jax.tree.leaves(variables)), start=0.0)


def none(module, x):
    y = module(x)
    nnx.pop(module, Loss)
    return y, jnp.zeros(())


def verified(nnx_call, port=Port):
    pair = Pair(Model(), lambda rngs: port(rngs), X, linen_call=linen_losses, nnx_call=nnx_call)
    return verify(pair, CHECKS, samples=1)


def test_losses_that_are_returned_pass():
    assert verified(losses).verdict in PASSES


@pytest.mark.quick("another kind")
@pytest.mark.parametrize(
    ("nnx_call", "line"),
    [
        (of_another_kind, "variables = nnx.pop(module, nnx.Intermediate)"),
        (before_the_call, "variables = nnx.pop(module, Loss)"),
        (none, "return y, jnp.zeros(())"),
        (lambda module, x: (module(x), 0.0), "(lambda module, x: (module(x), 0.0), "),
    ],
    ids=["another kind", "before the call", "none", "a number"],
)
def test_a_constant_that_is_returned_has_the_line_that_makes_it(nnx_call, line):
    found = verified(nnx_call)
    assert found.verdict == "different"
    assert found.divergence.linen is not None
    assert found.divergence.nnx.source.startswith(line)


def test_a_loss_that_a_layer_does_not_sow_is_named_where_the_other_sows_it():
    found = verified(losses, lambda rngs: Port(rngs, sows_z=False))
    assert found.verdict == "different"
    assert found.divergence.reason == "Linen sows mul (), NNX does not"
    assert found.divergence.linen.source.startswith('self.sow("losses", "z", ')
    assert found.divergence.nnx.source.startswith('self.sow(Loss, "balance", ')


class Branched(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(D, name="first")(x)
        branch = Routed(name="layer")(x)
        return x * 0.5 + branch


class PortOfBranched(nnx.Module):
    def __init__(self, rngs):
        self.first, self.layer = nnx.Linear(D, D, rngs=rngs), PortOfRouted(True, rngs)

    def __call__(self, x):
        x = self.first(x)
        return x * 0.5


def test_a_branch_that_is_lost_is_no_loss():
    """What its layer returns is not what it sows."""
    outputs = [lambda module, x: module(x)] * 2
    pair = Pair(Branched(), PortOfBranched, X, linen_call=outputs[0], nnx_call=outputs[1])
    found = verify(pair, CHECKS, samples=1)
    assert found.verdict == "different"
    assert "sows" not in found.divergence.reason
    assert found.divergence.nnx.source == "return x * 0.5"


class Seen(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(D)(nn.tanh(x))
        self.sow("intermediates", "seen", y)
        return y


class Beside(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(D, name="first")(x)
        return x * 0.5 + Seen(name="layer")(x)


class PortOfBeside(nnx.Module):
    def __init__(self, rngs):
        self.first, self.layer = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        x = self.first(x)
        return x * 0.5


def test_what_a_sum_calls_is_no_loss_that_its_layer_sows():
    found = verify(Pair(Beside(), PortOfBeside, X), CHECKS, samples=1)
    assert found.verdict == "different"
    assert "sows" not in found.divergence.reason
