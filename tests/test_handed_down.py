"""What a function is given and should not be is named at the call that gives it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.verification.locate.values import same_in_place
from tests.ports import dense

D, N, E = 4, 5, 7
EDGES = (jax.ShapeDtypeStruct((E,), "int32"),) * 2
GRAPH = (jax.ShapeDtypeStruct((N, D), "float32"), *EDGES)
PAIRED = (jax.ShapeDtypeStruct((2, N, D), "float32"),) * 2
LONGER = (jax.ShapeDtypeStruct((2, 7, D), "float32"),) * 2
MASKED = (*PAIRED, *(jax.ShapeDtypeStruct((2, N), "float32"),) * 2)


def spread(x, senders, receivers):
    degree = jax.ops.segment_sum(jnp.ones(E), receivers, N) + 1
    messages = x[senders] / (degree[senders] * degree[receivers])[:, None]
    return jnp.zeros_like(x).at[receivers].add(messages)


def spread_by_one_degree(x, senders, receivers):
    degree = jax.ops.segment_sum(jnp.ones(E), receivers, N) + 1
    messages = x[senders] / (degree[senders] * degree[senders])[:, None]
    return jnp.zeros_like(x).at[receivers].add(messages)


def both_ways(x, senders, receivers):
    out = spread(x, senders, receivers)
    return jnp.tanh(out) + spread(x * x, receivers, senders)


def one_way(x, senders, receivers):
    out = spread(x, senders, receivers)
    return jnp.tanh(out) + spread(x * x, senders, receivers)


def one_degree(x, senders, receivers):
    out = spread(x, senders, receivers)
    return jnp.tanh(out) + spread_by_one_degree(x * x, receivers, senders)


def pooled(x, mask):
    total = (x * mask[..., None]).sum(1)
    return total / (mask.sum(1)[:, None] + 1e-6)


def each_with_its_mask(x, y, of_x, of_y):
    one = pooled(x, of_x)
    other = pooled(y, of_y)
    return one * jnp.tanh(other)


def both_with_one_mask(x, y, of_x, of_y):
    one = pooled(x, of_x)
    other = pooled(y, of_x)
    return one * jnp.tanh(other)


def above(x, mask):
    return jnp.where(mask, x @ x.swapaxes(1, 2), -1e9)


def masked_in_turn(x, y):
    causal = jnp.tril(jnp.ones((N, N), bool))
    local = causal & jnp.triu(causal, -2)
    near = above(x, local)
    return nn.softmax(near) @ y + nn.softmax(above(y, causal)) @ x


def masked_alike(x, y):
    causal = jnp.tril(jnp.ones((N, N), bool))
    local = causal & jnp.triu(causal, -2)
    near = above(x, causal)
    return nn.softmax(near) @ y + nn.softmax(above(y, local)) @ x


def halves(x):
    kept = x * (jnp.arange(D) % 2)
    return kept + jnp.exp(-x * x)


def turned(x, y):
    z = jnp.tanh(x) * y
    z = z[..., ::-1]
    return halves(z)


def as_it_is(x, y):
    z = jnp.tanh(x) * y
    return halves(z)


def weighed(x, weights):
    kept = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
    return kept * weights


def each_with_its_weights(x, y):
    one = weighed(x, y[:, :1])
    return jnp.tanh(one) + weighed(jnp.sin(x), y[:, 1:2])


def each_with_those_of_the_other(x, y):
    one = weighed(jnp.sin(x), y[:, :1])
    return jnp.tanh(one) + weighed(x, y[:, 1:2])


def scanned(a, b):
    def after(one, other):
        return other[0] * one[0], other[0] * one[1] + other[1]

    return jax.lax.associative_scan(after, (a, b), axis=1)[1]


def scanned_backwards(a, b):
    def after(one, other):
        return other[0] * one[0], other[0] * one[1] + other[1]

    return jax.lax.associative_scan(after, (a, b), axis=1, reverse=True)[1]


def decaying(x, y):
    rates = jnp.exp(-jnp.abs(x[..., None] * y[:, :1, None]))
    states = scanned(rates, rates * y[:, :, None] * x[..., None])
    return jnp.einsum("bnde,bne->bnd", states, y)


def decaying_backwards(x, y):
    rates = jnp.exp(-jnp.abs(x[..., None] * y[:, :1, None]))
    states = scanned_backwards(rates, rates * y[:, :, None] * x[..., None])
    return jnp.einsum("bnde,bne->bnd", states, y)


@pytest.mark.parametrize(
    ("linen", "port", "inputs", "line"),
    [
        (both_ways, one_way, GRAPH, "spread(x * x, senders, receivers)"),
        (both_ways, one_degree, GRAPH, "degree[senders] * degree[senders]"),
        (each_with_its_mask, both_with_one_mask, MASKED, "other = pooled(y, of_x)"),
        (masked_in_turn, masked_alike, PAIRED, "near = above(x, causal)"),
        (turned, as_it_is, PAIRED, "return halves(z)"),
        (decaying, decaying_backwards, LONGER, "axis=1, reverse=True)[1]"),
        (each_with_its_weights, each_with_those_of_the_other, PAIRED, "weighed(jnp.sin(x)"),
    ],
)
def test_the_call_is_named(linen, port, inputs, line):
    assert verify(dense.then(linen, linen, inputs), samples=1).verdict == "identical"
    said = verify(dense.then(linen, port, inputs), samples=1, checks=("forward",))
    assert said.verdict == "different"
    assert line in said.divergence.nnx.source


def test_the_call_is_named_in_linen():
    said = verify(dense.then(as_it_is, turned, PAIRED), samples=1, checks=("forward",))
    assert said.divergence.linen.source == "return halves(z)"
    assert said.divergence.nnx.source == "z = z[..., ::-1]"


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(D)(nn.relu(nn.Dense(D)(x)))


class Targets(nn.Module):
    stops: bool = True

    @nn.compact
    def __call__(self, x, y):
        aim = Encoder()(y)
        if self.stops:
            aim = jax.lax.stop_gradient(aim)
        return jnp.sum((Encoder()(x) - aim) ** 2)


class PortOfEncoder(nnx.Module):
    def __init__(self, rngs):
        self.a, self.b = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.relu(self.a(x)))


class PortOfTargets(nnx.Module):
    def __init__(self, stops, rngs):
        self.aim, self.online = PortOfEncoder(rngs), PortOfEncoder(rngs)
        self.stops = stops

    def __call__(self, x, y):
        aim = self.aim(y)
        if self.stops:
            aim = jax.lax.stop_gradient(aim)
        return jnp.sum((self.online(x) - aim) ** 2)


def test_a_gradient_that_is_not_stopped_is_named_where_it_would_be():
    def found(linen, port):
        return verify(
            Pair(Targets(linen), functools.partial(PortOfTargets, port), PAIRED), samples=1
        )

    stop = "aim = jax.lax.stop_gradient(aim)"
    assert found(True, True).verdict == "identical"
    place = found(True, False).divergence
    assert (place.linen.source, place.nnx.source) == (stop, "aim = self.aim(y)")
    place = found(False, True).divergence
    assert (place.linen.source, place.nnx.source) == ("aim = Encoder()(y)", stop)


def rotated(x):
    one, other = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([one - 2 * other, other + 2 * one], axis=-1)


def both_rotated(x, y):
    q, k = rotated(x), rotated(x * x)
    q, k = (jnp.tanh(each) for each in (q, k))
    return q @ k.swapaxes(1, 2)


def one_rotated(x, y):
    q, k = rotated(x), x * x
    q, k = jnp.tanh(q), jnp.tanh(k)
    return q @ k.swapaxes(1, 2)


def in_windows(x):
    return x.reshape(2, N, 2, 2).swapaxes(1, 2).reshape(2, N, D)


def rolled_back(x, y):
    windows = in_windows(jnp.tanh(x))
    windows = jnp.roll(windows, (1, 2), (1, 2))
    return windows * y


def not_rolled_back(x, y):
    windows = in_windows(jnp.tanh(x))
    return windows * y


@pytest.mark.parametrize(
    ("linen", "port", "line"),
    [
        (both_rotated, one_rotated, "q, k = rotated(x), x * x"),
        (rolled_back, not_rolled_back, "windows = in_windows(jnp.tanh(x))"),
    ],
)
def test_what_is_left_out_is_named_where_it_would_be(linen, port, line):
    assert verify(dense.then(linen, linen, PAIRED), samples=1).verdict == "identical"
    said = verify(dense.then(linen, port, PAIRED), samples=1, checks=("forward",))
    assert said.verdict == "different"
    assert said.divergence.nnx.source.startswith(line)


def by_row(x, y):
    logits = x @ y.swapaxes(1, 2)
    logs = nn.log_softmax(logits)
    return -(jnp.eye(N) * logs).sum(-1).mean()


def by_column(x, y):
    logits = x @ y.swapaxes(1, 2)
    logs = nn.log_softmax(logits, axis=1)
    losses = -(jnp.eye(N) * logs).sum(-1)
    return losses.mean()


def if_above(x, y):
    return jax.lax.cond(jnp.exp(x).sum() > 0, jnp.sin, lambda x: x * 2, x)


def if_below(x, y):
    is_so = jnp.exp(x).sum() < 0
    return jax.lax.cond(is_so, jnp.sin, lambda x: x * 2, x)


def test_a_constant_is_no_value_that_both_have():
    """A maximum begins with minus infinity; a number that is compared may be 0, as False is."""
    said = verify(dense.then(by_row, by_column, PAIRED), samples=1, checks=("forward",))
    assert "axis=1" in said.divergence.nnx.source
    assert said.divergence.reason == "reduce_max: axes=(2,) in Linen, (1,) in NNX"
    said = verify(dense.then(if_above, if_below, PAIRED), samples=1, checks=("forward",))
    assert said.divergence.nnx.source == "is_so = jnp.exp(x).sum() < 0"


def every_other(x, first):
    mask = (jnp.arange(D) % 2 == first).astype(x.dtype)
    kept = x * mask
    return kept + jnp.exp(-x * x)


class InTurn(nn.Module):
    first: int

    @nn.compact
    def __call__(self, x, y):
        for i in range(2):
            x = every_other(nn.Dense(D)(x) * y, (i + self.first) % 2)
        return x


class PortInTurn(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(D, D, rngs=rngs) for _ in range(2)])

    def __call__(self, x, y):
        for i, layer in enumerate(self.layers):
            h = layer(x) * y
            mask = (jnp.arange(D) % 2 == i).astype(x.dtype)
            kept = h * mask
            x = kept + jnp.exp(-h * h)
        return x


def chosen(x, y):
    even = (jnp.arange(D) % 2 == 0).astype(x.dtype)
    odd = (jnp.arange(D) % 2 == 1).astype(x.dtype)
    kept = x * even
    return jnp.tanh(kept) + jnp.exp(y) * odd + x


def other_chosen(x, y):
    even = (jnp.arange(D) % 2 == 0).astype(x.dtype)
    odd = (jnp.arange(D) % 2 == 1).astype(x.dtype)
    kept = x * odd
    return jnp.tanh(kept) + jnp.exp(y) * odd + x * even.max()


def test_a_mask_of_another_constant_is_named_where_it_is_made():
    right, wrong = (verify(Pair(InTurn(first), PortInTurn, PAIRED), samples=1) for first in (0, 1))
    assert right.verdict == "identical"
    assert wrong.divergence.reason == "eq: 1 in Linen, 0 in NNX"
    assert wrong.divergence.nnx.source.startswith("mask = (jnp.arange(D) % 2 == i)")


def test_of_two_masks_the_choice_of_the_other_one_is_named():
    assert verify(dense.then(chosen, chosen, PAIRED), samples=1).verdict == "identical"
    said = verify(dense.then(chosen, other_chosen, PAIRED), samples=1, checks=("forward",))
    assert said.divergence.nnx.source == "kept = x * odd"


def attends(k, v, y):
    scores = jnp.einsum("bqd,bkd->bqk", jnp.tanh(y[..., : D // 2]), k)
    scores = jnp.where(jnp.tril(jnp.ones((N, N), bool)), scores, -jnp.inf)
    return nn.softmax(scores) @ v


def keys_first(x, y):
    k, v = jnp.split(x, 2, axis=-1)
    return attends(k, v, y)


def values_first(x, y):
    v, k = jnp.split(x, 2, axis=-1)
    return attends(k, v, y)


def test_infinity_is_near_to_nothing():
    """What is masked by it is no value that both have."""
    said = verify(dense.then(keys_first, values_first, PAIRED), samples=1, checks=("forward",))
    assert said.divergence.nnx.source == "v, k = jnp.split(x, 2, axis=-1)"
    finite, infinite = np.array([0.0, 1.0]), np.array([-np.inf, 1.0])
    assert same_in_place(infinite, infinite, 0.0)
    assert not same_in_place(infinite, finite, 0.0)
    assert not same_in_place(finite, infinite, 0.0)


class Tower(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(D)(nn.gelu(nn.LayerNorm()(x)))


class Towers(nn.Module):
    """Two towers, one for each input, times a temperature that is trained."""

    grows: bool = True

    @nn.compact
    def __call__(self, x, y):
        one = Tower(name="images")(nn.Dense(D, name="pixels")(x))
        other = Tower(name="texts")(nn.Dense(D, name="words")(y))
        scale = self.param("scale", nn.initializers.constant(2.0), ())
        scale = jnp.exp(scale) if self.grows else scale
        return scale * one @ other.swapaxes(1, 2)


class PortOfTower(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.last = nnx.LayerNorm(D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.gelu(self.norm(x)))


class PortOfTowers(nnx.Module):
    def __init__(self, rngs):
        self.pixels, self.words = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)
        self.images, self.texts = PortOfTower(rngs), PortOfTower(rngs)
        self.scale = nnx.Param(jnp.array(2.0))

    def __call__(self, x, y, crosses=False, grows=True):
        pixels, words = self.pixels(x), self.words(y)
        if crosses:
            one = self.texts(pixels)
            other = self.images(words)
        else:
            one, other = self.images(pixels), self.texts(words)
        scale = jnp.exp(self.scale[...]) if grows else self.scale[...]
        return scale * one @ other.swapaxes(1, 2)


@pytest.mark.parametrize(
    ("wrong", "line", "reason"),
    [
        (
            {"crosses": True},
            "one = self.texts(pixels)",
            "params/images/LayerNorm_0/scale in Linen, ",
        ),
        ({"grows": False}, "return scale * one", "Linen computes exp (), NNX has nothing in its"),
    ],
)
def test_what_a_function_or_a_weight_is_given_for_is_named(wrong, line, reason):
    pair = Pair(Towers(), PortOfTowers, PAIRED)
    assert verify(pair, samples=1).verdict == "identical"
    said = verify(dataclasses.replace(pair, nnx_kwargs=wrong), samples=1, checks=("forward",))
    assert said.divergence.nnx.source.startswith(line)
    assert said.divergence.reason.startswith(reason)


def test_a_weight_of_which_nnx_alone_computes_something():
    pair = Pair(Towers(grows=False), PortOfTowers, PAIRED)
    said = verify(pair, samples=1, checks=("forward",))
    assert said.divergence.linen.source.startswith("return scale * one")
    assert said.divergence.nnx.source.startswith("scale = jnp.exp(")
    assert said.divergence.reason == "NNX computes exp (), Linen has nothing in its place"
