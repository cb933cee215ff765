"""Layers that a port goes through by number, in a loop or not, are those of a scan."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax

from shared import Pair, verify
from shared.report.result import PASSES

LAYERS, F = 4, 8
X = (jax.ShapeDtypeStruct((5, F), "float32"),)


class Stack(nn.Module):
    """Each layer has a number of its own beside its matrix."""

    reverse: bool = False

    @nn.compact
    def __call__(self, x):
        def layer(module, x, _):
            gate = module.param("gate", nn.initializers.normal(1.0), ())
            return gate * nn.tanh(nn.Dense(F, name="dense")(x)) + x, None

        scan = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=LAYERS,
            reverse=self.reverse,
        )
        return scan(self, x, None)[0]


class Port(nnx.Module):
    def __init__(self, rngs, run):
        @nnx.vmap(in_axes=0, out_axes=0)
        def dense(rngs):
            return nnx.Linear(F, F, rngs=rngs)

        self.dense = dense(rngs.split(LAYERS))
        self.gate = nnx.Param(jax.random.normal(rngs.params(), (LAYERS,)))
        self.run = run

    def __call__(self, x):
        return self.run((self.dense.kernel[...], self.dense.bias[...], self.gate[...]), x)


def block(weights, x):
    kernel, bias, gate = weights
    return gate * jnp.tanh(x @ kernel + bias) + x


def layer(stack, i, x, j=None):
    kernel, bias, gate = stack
    return block((kernel[i], bias[i if j is None else j], gate[i]), x)


def in_order(*order):
    def run(stack, x):
        for i in order:
            x = layer(stack, i, x)
        return x

    return run


def counted(body, first=0, last=LAYERS):
    return lambda stack, x: lax.fori_loop(first, last, lambda i, x: body(stack, i, x), x)


def sliced(stack, i, x):
    return block([lax.dynamic_index_in_dim(leaf, i, keepdims=False) for leaf in stack], x)


def one_by_one(stack, x):
    for weights in zip(*stack, strict=True):
        x = block(weights, x)
    return x


def unstacked(stack, x):
    for weights in zip(*map(jnp.unstack, stack), strict=True):
        x = block(weights, x)
    return x


def over_numbers(stack, x):
    return lax.scan(lambda x, i: (layer(stack, i, x), None), x, jnp.arange(LAYERS))[0]


def taken(stack, i, x):
    return block([jnp.take(leaf, i, axis=0) for leaf in stack], x)


def in_pairs(stack, x):
    return lax.fori_loop(0, 2, lambda i, x: layer(stack, 2 * i + 1, layer(stack, 2 * i, x)), x)


RIGHT = {
    "a for": (Stack(), in_order(0, 1, 2, 3)),
    "a for, backwards": (Stack(reverse=True), in_order(3, 2, 1, 0)),
    "a fori_loop": (Stack(), counted(layer)),
    "a fori_loop, backwards": (Stack(reverse=True), counted(lambda w, i, x: layer(w, 3 - i, x))),
    "a fori_loop of two each": (Stack(), in_pairs),
    "dynamic_index_in_dim": (Stack(), counted(sliced)),
    "jnp.take": (Stack(), counted(taken)),
    "a scan over numbers": (Stack(), over_numbers),
    "leaf by leaf": (Stack(), one_by_one),
    "jnp.unstack": (Stack(), unstacked),
}


def checked(linen, run):
    return verify(Pair(linen, lambda rngs: Port(rngs, run), X), samples=1)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", RIGHT)
def test_it_passes(name):
    found = checked(*RIGHT[name])
    assert found.verdict in PASSES, (found.remark, found.divergence)
    assert {row["transform"] for row in found.rows} == {"identity"}


# What it is: (what is run, what is said).
WRONG = {
    "backwards": (in_order(3, 2, 1, 0), "equal if the layer axis were reversed"),
    "one too few": (in_order(0, 1, 2), ""),
    "begins with the second": (counted(layer, first=1), ""),
    "ends before the last": (counted(layer, last=LAYERS - 1), ""),
    "the first bias for all": (counted(lambda w, i, x: layer(w, i, x, 0)), "params/dense/bias"),
    "the third again": (counted(lambda w, i, x: layer(w, i % 3, x)), ""),
    "off by one": (counted(lambda w, i, x: layer(w, i + 1, x)), ""),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_found(name):
    run, said = WRONG[name]
    found = checked(Stack(), run)
    assert found.verdict == "different"
    assert said in found.remark


@pytest.mark.parametrize("name", ["begins with the second", "ends before the last"])
def test_a_loop_with_a_turn_less_is_named(name):
    divergence = checked(Stack(), WRONG[name][0]).divergence
    assert "scan(self, x, None)" in divergence.linen.source
    assert "lax.fori_loop(first, last" in divergence.nnx.source


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        q, k, v = (nn.Dense(F, use_bias=False, name=name)(x) for name in "qkv")
        return nn.softmax(q @ k.T) @ v


class PortAttention(nnx.Module):
    """Three matrices in one weight, taken by number."""

    def __init__(self, rngs, order=(0, 1, 2), mistake=1.0):
        self.qkv = nnx.Param(jax.random.normal(rngs.params(), (3, F, F)))
        self.order, self.mistake = order, mistake

    def __call__(self, x):
        q, k, v = (x @ self.qkv[...][i] for i in self.order)
        return nnx.softmax(self.mistake * q @ k.T) @ v


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_matrices_of_one_weight_are_told_apart_by_their_use(order):
    checks = ("forward", "gradients")
    pair = Pair(Attention(), lambda rngs: PortAttention(rngs, order), X)
    assert verify(pair, checks, samples=1).verdict in PASSES
    wrong = Pair(Attention(), lambda rngs: PortAttention(rngs, order, 0.5), X)
    assert verify(wrong, checks, samples=1).verdict == "different"


class Noisy(nn.Module):
    noise: Callable

    @nn.compact
    def __call__(self, x):
        return self.noise(nn.Dense(3, name="dense")(x))


class PortNoisy(nnx.Module):
    def __init__(self, rngs, noise):
        self.dense, self.noise = nnx.Linear(F, 3, rngs=rngs), noise

    def __call__(self, x):
        return self.noise(self.dense(x))


def test_a_key_that_a_known_condition_chooses_is_no_number():
    keys = jax.random.key(1), jax.random.key(2)  # constants of what is traced

    def noise(x):
        chosen = jax.jit(lambda first: lax.select(first, *keys))(True)
        return x + jax.random.normal(chosen, x.shape)

    pair = Pair(Noisy(noise), lambda rngs: PortNoisy(rngs, noise), X)
    assert verify(pair, samples=1).verdict in PASSES
