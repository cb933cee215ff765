"""Weights are paired as they are named: of `res_0/skip` too, and those that a port does not use."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify

B, T, D, BLOCKS = 2, 6, 4, 3
X = (jax.ShapeDtypeStruct((B, T, D), "float32"),)


class Gated(nn.Module):
    @nn.compact
    def __call__(self, x):
        signal, gate = jnp.split(nn.Dense(2 * D, name="both")(x), 2, -1)
        h = nn.tanh(signal) * nn.sigmoid(gate)
        return x + nn.Dense(D, name="res")(h), nn.Dense(D, name="skip")(h)


class Gates(nn.Module):
    adds: bool = True

    @nn.compact
    def __call__(self, x):
        total = 0.0
        for i in range(BLOCKS):
            x, skip = Gated(name=f"res_{i}")(x)
            total = total + skip if self.adds else skip
        return nn.Dense(3, name="out")(nn.relu(0.5 * total))


class PortOfGated(nnx.Module):
    def __init__(self, rngs):
        self.both = nnx.Linear(D, 2 * D, rngs=rngs)
        self.res, self.skip = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        signal, gate = jnp.split(self.both(x), 2, -1)
        h = nnx.tanh(signal) * nnx.sigmoid(gate)
        return x + self.res(h), self.skip(h)


class Crossed(PortOfGated):
    def __call__(self, x):
        signal, gate = jnp.split(self.both(x), 2, -1)
        h = nnx.tanh(signal) * nnx.sigmoid(gate)
        return x + self.skip(h), self.res(h)


class PortOfGates(nnx.Module):
    def __init__(self, adds, rngs, gated=PortOfGated):
        self.layers = nnx.List([gated(rngs) for _ in range(BLOCKS)])
        self.out, self.adds = nnx.Linear(D, 3, rngs=rngs), adds

    def __call__(self, x):
        total = 0.0
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip if self.adds else skip
        return self.out(nnx.relu(0.5 * total))


@pytest.mark.parametrize(("linen", "nnx"), [(True, True), (True, False), (False, True)])
def test_they_are_paired_as_they_are_named(linen, nnx):
    pair = Pair(Gates(linen), functools.partial(PortOfGates, nnx), X)
    found = verify(pair, samples=1, checks=("structure", "programs", "forward"))
    pairs = {row["linen"]: row["nnx"] for row in found.rows}
    for i in range(BLOCKS):
        for name in ("both", "res", "skip"):
            assert pairs[f"params/res_{i}/{name}/kernel"] == f"params/layers/{i}/{name}/kernel"
    assert found.verdict == ("identical" if linen and nnx else "different")
    if not nnx:
        assert found.divergence.nnx.source == "x, skip = layer(x)"
        assert found.divergence.linen.source.startswith("total = total + skip")


def test_an_exchange_is_told_where_the_module_around_is_named_alike():
    """`res_0/skip` has both words: what the two paths share says nothing."""
    port = functools.partial(PortOfGates, True, gated=Crossed)
    found = verify(Pair(Gates(), port, X), samples=1, checks=("structure", "programs", "forward"))
    assert found.verdict == "different"
    assert found.remark == "equal if skip and res were exchanged"
    assert "self.skip(h), self.res(h)" in found.divergence.nnx.source
