"""Mistakes are named in the statement that makes them, and not in one that follows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES
from tests.ports import dense

B, T, D = 2, 5, 4
X = (jax.ShapeDtypeStruct((B, T, D), "float32"),)


def found(linen, port, inputs=X):
    return verify(Pair(linen, port, inputs), samples=1, checks=("forward",))


def assert_named(said, linen, nnx):
    assert said.verdict == "different"
    assert said.divergence.linen.source.startswith(linen)
    assert said.divergence.nnx.source.startswith(nnx)


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        scores = jnp.einsum("bqd,bkd->bqk", nn.Dense(D)(x), nn.Dense(D)(x))
        scores = scores * D**-0.5
        return nn.Dense(D)(nn.softmax(scores) @ x)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.LayerNorm()(x)
        h = Attention()(h)
        x = x + h
        h = nn.LayerNorm()(x)
        h = nn.Dense(D)(nn.gelu(nn.Dense(2 * D)(h)))
        return x + h


class Blocks(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = Block()(x)
        return nn.Dense(3)(nn.LayerNorm()(x))


class PortAttention(nnx.Module):
    def __init__(self, scaled, rngs):
        self.query, self.key, self.out = (nnx.Linear(D, D, rngs=rngs) for _ in range(3))
        self.scaled = scaled

    def __call__(self, x):
        scores = jnp.einsum("bqd,bkd->bqk", self.query(x), self.key(x))
        if self.scaled:
            scores = scores * D**-0.5
        weights = nnx.softmax(scores)
        return self.out(weights @ x)


class PortBlock(nnx.Module):
    def __init__(self, lost, rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(D, rngs=rngs), nnx.LayerNorm(D, rngs=rngs)
        self.attention = PortAttention(lost != "scale", rngs)
        self.up, self.down = nnx.Linear(D, 2 * D, rngs=rngs), nnx.Linear(2 * D, D, rngs=rngs)
        self.lost = lost

    def __call__(self, x):
        h = x
        if self.lost != "norm":
            h = self.norm1(x)
        h = self.attention(h)
        x = x + h
        h = self.norm2(x)
        h = self.down(nnx.gelu(self.up(h)))
        if self.lost == "residual":
            return h
        return x + h


class PortBlocks(nnx.Module):
    def __init__(self, lost, rngs):
        self.layers = nnx.List([PortBlock(lost, rngs) for _ in range(2)])
        self.norm, self.out = nnx.LayerNorm(D, rngs=rngs), nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm(x))


def test_the_blocks_pass():
    assert found(Blocks(), lambda rngs: PortBlocks("", rngs)).verdict in PASSES


@pytest.mark.parametrize(
    ("lost", "linen", "nnx"),
    [
        ("norm", "h = nn.LayerNorm()(x)", "h = self.attention(h)"),
        ("scale", "scores = scores * D**-0.5", "scores = jnp.einsum("),
        ("residual", "return x + h", "h = self.down("),
    ],
)
def test_what_a_block_lacks_is_named_beside_it(lost, linen, nnx):
    assert_named(found(Blocks(), lambda rngs: PortBlocks(lost, rngs)), linen, nnx)


def distance():
    return np.clip(np.arange(T)[None, :] - np.arange(T)[:, None] + 2, 0, 4)


def other_sign():
    return np.clip(np.arange(T)[:, None] - np.arange(T)[None, :] + 2, 0, 4)


class Relative(nn.Module):
    @nn.compact
    def __call__(self, x):
        scores = jnp.einsum("bqd,bkd->bqk", x, x)
        table = nn.Embed(5, 1)
        bias = table(distance())[..., 0]
        scores = scores + bias
        return nn.Dense(3)(nn.softmax(scores) @ x)


class PortRelative(nnx.Module):
    def __init__(self, distance, rngs):
        self.table, self.out = nnx.Embed(5, 1, rngs=rngs), nnx.Linear(D, 3, rngs=rngs)
        self.distance = distance

    def __call__(self, x):
        scores = jnp.einsum("bqd,bkd->bqk", x, x)
        bias = self.table(self.distance())[..., 0]
        scores = scores + bias
        return self.out(nnx.softmax(scores) @ x)


def test_a_constant_in_another_order_is_named_where_it_is_taken():
    assert found(Relative(), lambda rngs: PortRelative(distance, rngs)).verdict in PASSES
    said = found(Relative(), lambda rngs: PortRelative(other_sign, rngs))
    assert_named(said, "bias = table(distance())", "bias = self.table(self.distance())")


class Mixes(nn.Module):
    @nn.compact
    def __call__(self, x):
        mlp = nn.Dense(D)
        y = nn.LayerNorm()(x)
        y = y.swapaxes(1, 2)
        y = nn.gelu(mlp(y))
        x = x + y
        return x + nn.gelu(mlp(x))


class PortMixes(nnx.Module):
    def __init__(self, turned, rngs):
        self.mlp, self.norm = nnx.Linear(D, D, rngs=rngs), nnx.LayerNorm(D, rngs=rngs)
        self.turned = turned

    def __call__(self, x):
        y = self.norm(x)
        if self.turned:
            y = y.swapaxes(1, 2)
        y = nnx.gelu(self.mlp(y))
        x = x + y
        return x + nnx.gelu(self.mlp(x))


def test_a_transpose_lost_in_front_of_shared_weights():
    square = (jax.ShapeDtypeStruct((B, D, D), "float32"),)
    assert found(Mixes(), lambda rngs: PortMixes(True, rngs), square).verdict in PASSES
    said = found(Mixes(), lambda rngs: PortMixes(False, rngs), square)
    assert_named(said, "y = y.swapaxes(1, 2)", ("y = self.norm(x)", "y = nnx.gelu(self.mlp(y))"))


class Projected(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.tanh(nn.Dense(D)(x))
        y = x + nn.gelu(nn.Dense(D)(y))
        return nn.Dense(3)(y)


class PortProjected(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)
        self.out = nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x):
        y = nnx.tanh(self.first(x))
        y = nnx.gelu(self.second(y))
        return self.out(y)


def test_a_residual_lost_in_front_of_a_projection():
    assert_named(found(Projected(), PortProjected), "y = x + nn.gelu(", "y = nnx.gelu(")


class BothWays(nn.Module):
    @nn.compact
    def __call__(self, x):
        forth = nn.RNN(nn.SimpleCell(D))(x)
        back = nn.RNN(nn.SimpleCell(D), reverse=True, keep_order=True)(x)
        y = jnp.concatenate([forth, back], axis=-1)
        return nn.Dense(3)(y)


class PortBothWays(nnx.Module):
    def __init__(self, rngs):
        self.forth = nnx.RNN(nnx.SimpleCell(D, D, rngs=rngs), rngs=rngs)
        cell = nnx.SimpleCell(D, D, rngs=rngs)
        self.back = nnx.RNN(cell, reverse=True, keep_order=True, rngs=rngs)
        self.out = nnx.Linear(2 * D, 3, rngs=rngs)

    def __call__(self, x):
        forth, back = self.forth(x), self.back(x)
        y = jnp.concatenate([back, forth], axis=-1)
        return self.out(y)


def test_the_order_of_a_concatenation_behind_recurrence():
    said = found(BothWays(), PortBothWays)
    assert_named(said, "y = jnp.concatenate([forth, back]", "y = jnp.concatenate([back, forth]")


def mixed_by_frequencies(x):
    waves = jnp.fft.fft2(x, axes=(1, 2))
    mixed = waves.real
    return x + mixed


def along_each_axis(x):
    waves = jnp.fft.fft(jnp.fft.fft(x, axis=2), axis=1)
    mixed = waves.real
    return x + mixed


def by_phases(x):
    waves = jnp.fft.fft(jnp.fft.fft(x, axis=2), axis=1)
    mixed = waves.imag
    return x + mixed


@pytest.mark.filterwarnings("error")
def test_of_complex_numbers_it_is_told_which_are_the_same():
    right, wrong = (
        verify(dense.then(mixed_by_frequencies, port, X), samples=1)
        for port in (along_each_axis, by_phases)
    )
    assert right.verdict in PASSES
    assert_named(wrong, "mixed = waves.real", "mixed = waves.imag")


class Grouped(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(D)(x)
        h = nn.GroupNorm(num_groups=2, use_scale=False, use_bias=False)(h.reshape(-1, D))
        return nn.Dense(3)(h)


class GroupedByHand(nnx.Module):
    def __init__(self, epsilon, rngs):
        self.first, self.out = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, 3, rngs=rngs)
        self.epsilon = epsilon

    def __call__(self, x):
        h = self.first(x).reshape(B, T, 2, -1)
        mean = jnp.mean(h, axis=-1, keepdims=True)
        variance = jnp.var(h, axis=-1, keepdims=True)
        h = (h - mean) * jax.lax.rsqrt(variance + self.epsilon)
        return self.out(h.reshape(-1, D))


@pytest.mark.quick("1e-05")
@pytest.mark.parametrize("epsilon", [1e-6, 1e-5])
def test_the_epsilon_of_a_norm_that_is_written_by_hand(epsilon):
    said = found(Grouped(), lambda rngs: GroupedByHand(epsilon, rngs))
    if epsilon == 1e-6:
        assert said.verdict in PASSES
        return
    assert said.divergence.reason == "add: 1e-06 in Linen, 1e-05 in NNX"
    assert_named(said, "h = nn.GroupNorm(", "h = (h - mean) * jax.lax.rsqrt(variance + ")


class Stateful(nn.Module):
    """A block that returns what it has seen too."""

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        y = nn.Dense(D, name="mix")(jnp.tanh(y))
        return x + y, jnp.max(y, axis=1)


class StatefulBlocks(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, first = Stateful()(x)
        x, second = Stateful()(x)
        return nn.Dense(3)(nn.LayerNorm()(x)), first + second


class PortOfStateful(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.mix = nnx.LayerNorm(D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        h = self.norm(x)
        out = self.mix(nnx.tanh(h))
        return self.residual(x, out), out.max(axis=1)

    def residual(self, x, out):
        return x + out


class WithoutResidual(PortOfStateful):
    def __call__(self, x):
        h = self.norm(x)
        out = self.mix(nnx.tanh(h))
        return out, out.max(axis=1)


class PortOfStatefulBlocks(nnx.Module):
    def __init__(self, block, rngs):
        self.blocks = nnx.List([block(rngs) for _ in range(2)])
        self.norm, self.head = nnx.LayerNorm(D, rngs=rngs), nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x):
        state = 0.0
        for block in self.blocks:
            x, seen = block(x)
            state = state + seen
        x = self.norm(x)
        return self.head(x), state


def test_a_residual_that_is_lost_in_the_return_of_several():
    right, wrong = (
        found(StatefulBlocks(), lambda rngs, block=block: PortOfStatefulBlocks(block, rngs))
        for block in (PortOfStateful, WithoutResidual)
    )
    assert right.verdict in PASSES
    assert_named(wrong, "return x + y, jnp.max(y, axis=1)", "return out, out.max(axis=1)")


class Tagger(nn.Module):
    @nn.compact
    def __call__(self, x, lengths):
        x = nn.Dense(D, name="embed")(x)
        there = nn.RNN(nn.SimpleCell(D), name="there")
        back = nn.RNN(nn.SimpleCell(D), reverse=True, keep_order=True, name="back")
        y = jnp.concatenate([there(x, seq_lengths=lengths), back(x, seq_lengths=lengths)], axis=-1)
        return nn.Dense(3)(nn.LayerNorm()(y))


class ThereAndBack(nnx.Module):
    def __init__(self, reverse, rngs):
        self.there = nnx.RNN(nnx.SimpleCell(D, D, rngs=rngs), rngs=rngs)
        cell = nnx.SimpleCell(D, D, rngs=rngs)
        self.back = nnx.RNN(cell, reverse=reverse, keep_order=True, rngs=rngs)

    def __call__(self, x, lengths):
        there = self.there(x, seq_lengths=lengths)
        back = self.back(x, seq_lengths=lengths)
        return jnp.concatenate([there, back], axis=-1)


class PortOfTagger(nnx.Module):
    def __init__(self, reverse, rngs):
        self.embed, self.encoder = nnx.Linear(D, D, rngs=rngs), ThereAndBack(reverse, rngs)
        self.norm, self.head = nnx.LayerNorm(2 * D, rngs=rngs), nnx.Linear(2 * D, 3, rngs=rngs)

    def __call__(self, x, lengths):
        h = self.norm(self.encoder(self.embed(x), lengths))
        return self.head(h)


@pytest.mark.quick("False")
@pytest.mark.parametrize("reverse", [True, False])
def test_a_direction_that_is_lost_in_a_function_that_the_input_is_handed_to(reverse):
    said = found(
        Tagger(), lambda rngs: PortOfTagger(reverse, rngs), (*X, np.array([3, 5], np.int32))
    )
    if reverse:
        assert said.verdict in PASSES
        return
    assert_named(said, "y = jnp.concatenate(", "back = self.back(x, seq_lengths=lengths)")
