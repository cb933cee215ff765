"""Masks and positions may be made in many ways: what differs in them is named, not that."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES

B, T, D, E = 2, 5, 4, 3
X = (jax.ShapeDtypeStruct((B, T, D), "float32"),)
CHECKS = ("structure", "forward")


def verified(linen, port):
    return verify(Pair(linen, port, X), CHECKS, samples=1)


def assert_named(said, linen, nnx):
    assert said.verdict == "different"
    assert said.divergence.linen.source == linen
    assert said.divergence.nnx.source == nnx


class Causal(nn.Module):
    @nn.compact
    def __call__(self, x):
        scores = nn.Dense(D, name="query")(x) @ x.swapaxes(1, 2)
        scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -1e9)
        return nn.Dense(3, name="out")(nn.softmax(scores) @ x)


class PortOfCausal(nnx.Module):
    def __init__(self, rngs, is_strict=False):
        self.query, self.out = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, 3, rngs=rngs)
        self.compare = jnp.greater if is_strict else jnp.greater_equal

    def __call__(self, x):
        scores = jnp.einsum("bqd,bkd->bqk", self.query(x), x)
        at = jnp.arange(T)
        visible = self.compare(at[:, None], at[None, :])
        scores = jnp.where(visible, scores, -1e9)
        return self.out(nnx.softmax(scores) @ x)


def test_a_mask_is_named_where_it_is_what_the_other_is_not():
    assert verified(Causal(), PortOfCausal).verdict in PASSES
    assert_named(
        verified(Causal(), lambda rngs: PortOfCausal(rngs, is_strict=True)),
        "scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -1e9)",
        "visible = self.compare(at[:, None], at[None, :])",
    )


class Coupled(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(2):
            scale = self.param(f"scale_{i}", nn.initializers.zeros, (D,))
            shift = self.param(f"shift_{i}", nn.initializers.zeros, (D,))
            x = (x + shift) * jnp.exp(scale)
            mask = (jnp.arange(D) % 2 == i).astype(x.dtype)
            x = x + nn.Dense(D, name=f"dense_{i}")(x * mask) * (1 - mask)
        return x


class Coupling(nnx.Module):
    def __init__(self, i, is_right, rngs):
        self.scale, self.shift = nnx.Param(jnp.zeros(D)), nnx.Param(jnp.zeros(D))
        self.dense = nnx.Linear(D, D, rngs=rngs)
        self.mask = jnp.zeros(D).at[np.arange(i, D, 2)].set(1.0)
        self.is_right = is_right

    def __call__(self, x):
        if self.is_right:
            x = (x + self.shift) * jnp.exp(self.scale[...])
        else:
            x = x * jnp.exp(self.scale[...]) + self.shift
        h = self.dense(jnp.where(self.mask > 0, x, 0.0))
        return x + jnp.where(self.mask > 0, 0.0, h)


class PortOfCoupled(nnx.Module):
    def __init__(self, rngs, is_right=True):
        self.layers = nnx.List([Coupling(i, is_right, rngs) for i in range(2)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_what_is_done_with_values_is_named_before_the_masks_that_are_made_otherwise():
    assert verified(Coupled(), PortOfCoupled).verdict in PASSES
    assert_named(
        verified(Coupled(), lambda rngs: PortOfCoupled(rngs, is_right=False)),
        "x = (x + shift) * jnp.exp(scale)",
        "x = x * jnp.exp(self.scale[...]) + self.shift",
    )


class Experts(nn.Module):
    @nn.compact
    def __call__(self, x):
        weights = nn.softmax(nn.Dense(E, name="router")(x))
        up = self.param("up", nn.initializers.normal(0.5), (E, D, 6))
        down = self.param("down", nn.initializers.normal(0.5), (E, 6, D))
        h = nn.gelu(jnp.einsum("btd,edf->btef", x, up))
        y = jnp.einsum("btef,efd,bte->btd", h, down, weights)
        return x + y


class ListOfExperts(nnx.Module):
    def __init__(self, count, rngs):
        def some(*shape):
            return nnx.List([nnx.Param(jax.random.normal(rngs.params(), shape)) for _ in range(E)])

        self.router = nnx.Linear(D, E, rngs=rngs)
        self.up, self.down, self.count = some(D, 6), some(6, D), count

    def __call__(self, x):
        weights = nnx.softmax(self.router(x))
        y = jnp.zeros_like(x)
        for i in range(self.count):
            y = y + weights[..., i : i + 1] * (nnx.gelu(x @ self.up[i]) @ self.down[i])
        return x + y


@pytest.mark.quick("2")
@pytest.mark.parametrize("count", [E, E - 1])
def test_a_loop_that_leaves_out_its_last_turn_is_named(count):
    said = verified(Experts(), lambda rngs: ListOfExperts(count, rngs))
    if count == E:
        assert said.verdict in PASSES
        return
    line = 'y = jnp.einsum("btef,efd,bte->btd", h, down, weights)'
    assert_named(said, line, "for i in range(self.count):")


class Summed(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(E):
            x = x + nn.Dense(D, name=f"dense_{i}")(jnp.tanh(x))
        x = x + self.param("shift", nn.initializers.normal(), (T, D))
        return nn.Dense(3, name="out")(x)


class Unshifted(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(D, D, rngs=rngs) for _ in range(E)])
        self.shift, self.out = nnx.Param(jnp.zeros((T, D))), nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = x + layer(jnp.tanh(x))
        return self.out(x)


def test_what_is_lost_behind_a_loop_is_no_turn_of_it():
    said = verified(Summed(), Unshifted)
    assert said.verdict == "different"
    assert said.divergence.linen.source.startswith('x = x + self.param("shift"')
    assert "for layer in" not in said.divergence.nnx.source


def of_groups(groups):
    """A mask for each window: positions of one group see each other."""
    groups = np.asarray(groups)
    return np.where(groups[:, :, None] == groups[:, None, :], 0.0, -100.0).astype(np.float32)


WINDOWS = [[0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]


class Windowed(nn.Module):
    """Attention in windows, each of them an example of its own."""

    @nn.compact
    def __call__(self, x):
        q, k = (nn.Dense(D, name=name)(x.reshape(-1, T, D)) for name in ("query", "key"))
        scores = (q * D**-0.5) @ k.swapaxes(1, 2)
        scores = scores + self.param("bias", nn.initializers.normal(), (T, T))
        scores = scores.reshape(-1, len(WINDOWS), T, T) + of_groups(WINDOWS)
        mixed = nn.softmax(scores.reshape(-1, T, T)) @ x.reshape(-1, T, D)
        return nn.Dense(3, name="out")(mixed.reshape(x.shape))


class PortOfWindowed(nnx.Module):
    def __init__(self, rngs, windows=WINDOWS):
        self.query, self.key = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)
        self.out, self.bias = nnx.Linear(D, 3, rngs=rngs), nnx.Param(jnp.zeros((T, T)))
        self.windows = windows

    def __call__(self, x):
        scores = jnp.einsum("bwqd,bwkd->bwqk", self.query(x), self.key(x)) / np.sqrt(D)
        scores = scores + self.bias
        scores = scores + of_groups(self.windows)
        return self.out(jnp.einsum("bwqk,bwkd->bwqd", nnx.softmax(scores), x))


def test_numbers_that_change_nothing_are_named_where_they_are_added():
    inputs = (jax.ShapeDtypeStruct((B, len(WINDOWS), T, D), "float32"),)
    right = verify(Pair(Windowed(), PortOfWindowed, inputs), CHECKS, samples=1)
    assert right.verdict in PASSES
    port = functools.partial(PortOfWindowed, windows=np.zeros((2, T)))
    assert_named(
        verify(Pair(Windowed(), lambda rngs: port(rngs), inputs), CHECKS, samples=1),
        "scores = scores.reshape(-1, len(WINDOWS), T, T) + of_groups(WINDOWS)",
        "scores = scores + of_groups(self.windows)",
    )
