"""Relative positions that NumPy computes as a model is traced: where rows of a table are taken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES

D, H, W, B, BUCKETS = 4, 2, 2, 2, 8
N = W * W
WINDOWS = (jax.ShapeDtypeStruct((B, 3, N, D), "float32"),)
TOKENS = (jax.ShapeDtypeStruct((B, 6, D), "float32"),)


def positions_in_a_window():
    at = np.stack(np.meshgrid(np.arange(W), np.arange(W), indexing="ij")).reshape(2, -1)
    apart = (at[:, :, None] - at[:, None, :]).transpose(1, 2, 0) + W - 1
    return apart[..., 0] * (2 * W - 1) + apart[..., 1]


class Windowed(nn.Module):
    """Attention in windows, each of them an example of its own."""

    @nn.compact
    def __call__(self, x):
        q, k, v = jnp.moveaxis(nn.Dense(3 * D, name="qkv")(x).reshape(-1, N, 3, H, D // H), 2, 0)
        scores = (q * (D // H) ** -0.5).swapaxes(1, 2) @ k.transpose(0, 2, 3, 1)
        table = self.param("table", nn.initializers.normal(0.5), ((2 * W - 1) ** 2, H))
        bias = table[positions_in_a_window().reshape(-1)].reshape(N, N, H).transpose(2, 0, 1)
        scores = scores + bias[None]
        mixed = (nn.softmax(scores) @ v.swapaxes(1, 2)).swapaxes(1, 2)
        return nn.Dense(D, name="out")(mixed.reshape(x.shape))


class Window(nnx.Module):
    def __init__(self, apart, rngs):
        self.qkv, self.out = nnx.Linear(D, 3 * D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)
        self.table = nnx.Param(jax.random.normal(rngs.params(), ((2 * W - 1) ** 2, H)))
        self.apart = apart

    def bias(self):
        y, x = np.divmod(np.arange(N), W)
        flat = self.apart(y[:, None], y[None, :], x[:, None], x[None, :])
        return jnp.einsum("qkh->hqk", self.table[...][flat])

    def __call__(self, x):
        heads = (*x.shape[:-1], H, D // H)
        q, k, v = (each.reshape(heads) for each in jnp.split(self.qkv(x), 3, axis=-1))
        scores = jnp.einsum("bwqhd,bwkhd->bwhqk", q, k) / np.sqrt(D // H)
        scores = scores + self.bias()
        mixed = jnp.einsum("bwhqk,bwkhd->bwqhd", nnx.softmax(scores), v)
        return self.out(mixed.reshape(x.shape))


def by_rows(y, other_y, x, other_x):
    return (y - other_y + W - 1) * (2 * W - 1) + x - other_x + W - 1


WRONG_POSITIONS = {
    "the other sign": lambda y, v, x, u: by_rows(v, y, x, u),
    "by columns": lambda y, v, x, u: by_rows(x, u, y, v),
    "without sign": lambda y, v, x, u: by_rows(abs(y - v), 0, x, u),
    "from zero": lambda y, v, x, u: by_rows(y, v + W - 1, x, u),
}


def windows(apart):
    return Pair(Windowed(), lambda rngs: Window(apart, rngs), WINDOWS)


def test_a_table_that_is_taken_by_the_same_positions_passes():
    assert verify(windows(by_rows), samples=1).verdict in PASSES


@pytest.mark.quick("the other sign")
@pytest.mark.parametrize("name", WRONG_POSITIONS)
def test_positions_that_are_others_are_named_where_they_take_rows(name):
    found = verify(windows(WRONG_POSITIONS[name]), ("structure", "forward"), samples=1)
    assert found.verdict == "different"
    assert found.divergence.linen.source.startswith("bias = table[positions_in_a_window()")
    assert found.divergence.nnx.source.startswith('return jnp.einsum("qkh->hqk", self.table')


def buckets(distance, longest):
    apart = np.abs(distance)
    far = BUCKETS // 2 + np.log(np.maximum(apart, 1) / 2) / np.log(longest / 2) * (BUCKETS // 2)
    return np.where(apart < BUCKETS // 2, apart, np.minimum(far, BUCKETS - 1)).astype(np.int32)


class Buckets(nn.Module):
    @nn.compact
    def __call__(self, length):
        distance = np.arange(length)[None, :] - np.arange(length)[:, None]
        table = self.param("table", nn.initializers.normal(1.0), (H, BUCKETS))
        chosen = jax.nn.one_hot(buckets(distance, 16), BUCKETS, axis=0)
        return jnp.einsum("hb,bqk->hqk", table, chosen)[None]


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x, bias):
        scores = nn.Dense(D, use_bias=False, name="q")(x) @ x.swapaxes(1, 2)
        weights = nn.softmax(scores[:, None] + bias)
        return nn.Dense(D, use_bias=False, name="out")((weights @ x[:, None]).sum(1))


class Bucketed(nn.Module):
    @nn.compact
    def __call__(self, x):
        bias = Buckets(name="positions")(x.shape[1])
        for i in range(2):
            x = x + Attention(name=f"attention_{i}")(x, bias)
        return x


class PortOfAttention(nnx.Module):
    def __init__(self, rngs):
        self.q, self.out = (nnx.Linear(D, D, use_bias=False, rngs=rngs) for _ in range(2))

    def __call__(self, x, bias):
        scores = jnp.einsum("bqd,bkd->bqk", self.q(x), x)
        weights = nnx.softmax(scores[:, None] + bias)
        return self.out(jnp.einsum("bhqk,bkd->bqd", weights, x))


class PortOfBucketed(nnx.Module):
    def __init__(self, longest, rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (H, BUCKETS)))
        self.blocks = nnx.List([PortOfAttention(rngs) for _ in range(2)])
        self.longest = longest

    def __call__(self, x):
        at = np.arange(x.shape[1])
        chosen = buckets(at[None, :] - at[:, None], self.longest)
        bias = jnp.take(self.table[...], chosen, axis=1)
        for block in self.blocks:
            x = x + block(x, bias[None])
        return x


@pytest.mark.quick("5")
@pytest.mark.parametrize("longest", [16, 5])
def test_numbers_that_are_made_in_a_layer_are_named_in_it(longest):
    port = functools.partial(PortOfBucketed, longest)
    found = verify(Pair(Bucketed(), lambda rngs: port(rngs), TOKENS), samples=1)
    if longest == 16:
        assert found.verdict in PASSES
        return
    assert found.verdict == "different"
    assert found.divergence.linen.source.startswith("chosen = jax.nn.one_hot(buckets(")
    assert found.divergence.nnx.source == "bias = jnp.take(self.table[...], chosen, axis=1)"
