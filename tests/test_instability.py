"""Programs that are one function, of which one loses digits in float32 that the other keeps."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify

F = 16
CHECKS = ("programs", "forward", "gradients", "training")


def inputs(mean, scale=1.0):
    return lambda key: (mean + scale * jax.random.normal(key, (4, F)),)


class Linen(nn.Module):
    fast: bool

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.LayerNorm(use_fast_variance=self.fast)(x))


class Port(nnx.Module):
    def __init__(self, fast, rngs):
        self.norm = nnx.LayerNorm(F, use_fast_variance=fast, rngs=rngs)
        self.head = nnx.Linear(F, 3, rngs=rngs)

    def __call__(self, x):
        x = self.norm(x)
        return self.head(x)


def norms(linen_fast, nnx_fast, mean):
    return Pair(Linen(linen_fast), lambda rngs: Port(nnx_fast, rngs), inputs(mean))


class Function(nn.Module):
    of: object

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(self.of(x))


class FunctionPort(nnx.Module):
    def __init__(self, of, rngs):
        self.head = nnx.Linear(F, 3, rngs=rngs)
        self.of = of

    def __call__(self, x):
        x = self.of(x)
        return self.head(x)


def functions(linen, port, x):
    return Pair(Function(linen), lambda rngs: FunctionPort(port, rngs), x)


def by_sine(x):
    return 2e6 * jnp.sin(x / 2.0) ** 2


def by_cosine(x):
    return (1.0 - jnp.cos(x)) * 1e6


def fast_in_another_order(x):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    square = jnp.mean(x[:, ::-1] ** 2, axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(square - mean**2 + 1e-6)


def fast(x):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(square - mean**2 + 1e-6)


@pytest.mark.quick("linen-300.0", "nnx-1000.0")
@pytest.mark.parametrize("mean", [300.0, 1000.0])
@pytest.mark.parametrize("fast", ["linen", "nnx"])
def test_the_side_that_loses_digits_is_named(fast, mean):
    found = verify(norms(fast == "linen", fast == "nnx", mean), CHECKS)
    assert found.verdict == "different"
    assert "float32 loses" in found.divergence.reason
    assert found.divergence.linen.source.startswith("return nn.Dense(3)(nn.LayerNorm(")
    assert found.divergence.nnx.source == "x = self.norm(x)"
    # No check calls close what another calls different.
    assert {check.status for check in found.checks[2:]} == {"different"}


def test_a_difference_of_near_numbers_is_named():
    found = verify(functions(by_sine, by_cosine, inputs(0.0, 1e-3)), CHECKS)
    assert found.verdict == "different"
    assert found.divergence.nnx.source == "return (1.0 - jnp.cos(x)) * 1e6"


@pytest.mark.parametrize(
    "pair",
    [
        norms(False, True, 0.0),
        norms(True, True, 1000.0),
        functions(by_sine, by_cosine, inputs(1.0)),
        functions(fast, fast_in_another_order, inputs(500.0)),
    ],
    ids=["centred", "both fast", "far numbers", "both lose"],
)
def test_right_neighbours_pass(pair):
    found = verify(pair, CHECKS)
    assert found.verdict in ("identical", "close"), found
