"""What a port leaves out of a combination that is handed down is named where the rest is made."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES

B, T, D, V = 2, 5, 4, 11
TOKENS = (jax.ShapeDtypeStruct((B, T), "int32"),)


def masked(scores, mask):
    return jnp.where(mask, scores, -1e9) if mask.dtype == bool else scores + mask


def as_bias(*masks):
    return [jnp.where(mask, 0.0, -1e4) for mask in masks]


class Attend(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        scores = jnp.einsum("bqd,bkd->bqk", nn.Dense(D)(x), x) * D**-0.5
        weights = nn.softmax(masked(scores, mask))
        return x + weights @ x


class Model(nn.Module):
    adds: bool

    @nn.compact
    def __call__(self, tokens):
        real = (tokens > 0)[:, None, :]
        past = jnp.tril(jnp.ones((T, T), bool))
        near = jnp.triu(jnp.ones((T, T), bool), -2)
        if self.adds:
            real, past, near = as_bias(real, past, near)
            mask = real + past
            mask = mask + near
        else:
            mask = real & past
            mask = mask & near
        x = nn.Embed(V, D)(tokens)
        for _ in range(2):
            x = Attend()(x, mask)
        return nn.Dense(3)(x)


class PortAttend(nnx.Module):
    def __init__(self, rngs):
        self.query = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x, mask):
        scores = jnp.einsum("bqd,bkd->bqk", self.query(x) / D**0.5, x)
        return x + nnx.softmax(masked(scores, mask)) @ x


class Port(nnx.Module):
    """Makes its mask in a function of its own and hands it down through one more call."""

    def __init__(self, mask, rngs):
        self.embed = nnx.Embed(V, D, rngs=rngs)
        self.layers = nnx.List([PortAttend(rngs) for _ in range(2)])
        self.out, self.mask = nnx.Linear(D, 3, rngs=rngs), mask

    def __call__(self, tokens):
        real = (tokens > 0)[:, None, :]
        past = jnp.tril(jnp.ones((T, T), bool))
        near = jnp.triu(jnp.ones((T, T), bool), -2)
        mask = self.mask(real, past, near)
        return self.run(self.embed(tokens), mask)

    def run(self, x, mask):
        for layer in self.layers:
            x = layer(x, mask)
        return self.out(x)


def whole(real, past, near):
    mask = real & past & near
    return mask


def without_real(real, past, near):
    mask = (past & near)[None]
    return mask


def without_past(real, past, near):
    mask = real & near
    return mask


def without_near(real, past, near):
    mask = real & past
    return mask


def sum_of_all(real, past, near):
    a, b, c = as_bias(real, past, near)
    return a + b + c


def sum_without_real(real, past, near):
    _, b, c = as_bias(real, past, near)
    bias = b + c
    return bias


def sum_without_past(real, past, near):
    a, _, c = as_bias(real, past, near)
    bias = a + c
    return bias


def found(mask, adds):
    pair = Pair(Model(adds), lambda rngs: Port(mask, rngs), TOKENS)
    return verify(pair, samples=1, checks=("forward",))


@pytest.mark.parametrize(("mask", "adds"), [(whole, False), (sum_of_all, True)])
def test_the_whole_mask_passes(mask, adds):
    assert found(mask, adds).verdict in PASSES


@pytest.mark.parametrize(
    ("mask", "adds", "linen", "nnx"),
    [
        (without_real, False, "mask = real & past", "mask = (past & near)[None]"),
        (without_past, False, "mask = real & past", "mask = real & near"),
        (without_near, False, "mask = mask & near", "mask = real & past"),
        (sum_without_real, True, "mask = real + past", "bias = b + c"),
        (sum_without_past, True, "mask = real + past", "bias = a + c"),
    ],
)
def test_a_part_left_out_is_named_where_the_rest_is_combined(mask, adds, linen, nnx):
    said = found(mask, adds)
    assert said.verdict == "different"
    assert said.divergence.linen.source == linen
    assert said.divergence.nnx.source == nnx
