"""Which lines are named: of numbers in the wrong order, of a wrong scalar, of a call too many."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES
from tests.ports import dense

B, T, H, K = 2, 5, 2, 4
X = (jax.ShapeDtypeStruct((B, T, H * K), "float32"),)
STEP = (*X, jax.ShapeDtypeStruct((), "int32"))


def attend(heads):
    """Scores of a value with itself, (B, H, T, T)."""
    return jnp.einsum("bqhk,bmhk->bhqm", heads, heads)


def attends(x):
    heads = x.reshape(B, T, H, K)
    return attend(heads)


def last_axes_exchanged(x):
    heads = x.reshape(B, T, K, H)
    heads = heads.swapaxes(2, 3)
    return attend(heads)


def heads_before_time(x):
    heads = x.reshape(B, H, T, K)
    heads = heads.swapaxes(1, 2)
    return attend(heads)


def merged(x):
    heads = jnp.tanh(x.reshape(B, T, H, K).swapaxes(1, 2))
    heads = heads.swapaxes(1, 2)
    return jnp.cumsum(heads.reshape(B, T, H * K), axis=-1)


def merged_as_they_are(x):
    heads = jnp.tanh(x.reshape(B, T, H, K).swapaxes(1, 2))
    return jnp.cumsum(heads.reshape(B, T, H * K), axis=-1)


@pytest.mark.parametrize(
    ("linen", "port", "linen_line", "port_line"),
    [
        (attends, last_axes_exchanged, "heads = x.reshape(B, T, H, K)", "x.reshape(B, T, K, H)"),
        (attends, heads_before_time, "heads = x.reshape(B, T, H, K)", "x.reshape(B, H, T, K)"),
        (merged, merged_as_they_are, "heads = heads.swapaxes(1, 2)", "heads.reshape(B, T, H * K)"),
    ],
)
def test_elements_in_another_order_are_named_where_they_are_put_so(
    linen, port, linen_line, port_line
):
    assert verify(dense.then(linen, linen, X), samples=1).verdict == "identical"
    found = verify(dense.then(linen, port, X), samples=1)
    assert found.verdict == "different"
    assert linen_line in found.divergence.linen.source
    assert port_line in found.divergence.nnx.source


def test_the_reason_says_that_the_order_is_another():
    found = verify(dense.then(attends, heads_before_time, X), samples=1)
    assert found.divergence.reason == (
        "elements in another order: reshape (2, 5, 2, 4) in Linen, reshape (2, 2, 5, 4) in NNX"
    )


def by_steps(x, step):
    rate = jnp.where(step < 1000, step / 1000.0, 1.0)
    return x * rate


def at_most(limit):
    def then(x, step):
        rate = jnp.minimum(step / 1000.0, limit)
        return x * rate

    return then


def without_limit(x, step):
    rate = step / 1000.0
    return x * rate


@pytest.mark.parametrize(
    ("port", "line"), [(at_most(0.5), "rate = jnp.minimum"), (without_limit, "rate = step / 1000")]
)
def test_a_number_computed_from_an_input_is_named_where_it_is_computed(port, line):
    assert verify(dense.then(by_steps, at_most(1.0), STEP), samples=1).verdict != "different"
    found = verify(dense.then(by_steps, port, STEP))
    assert found.verdict == "different"
    assert found.divergence.linen.source.startswith("rate = jnp.where(step < 1000")
    assert found.divergence.nnx.source.startswith(line)


def turned(x):
    """A rotation of each head by the place, written with its table as one product."""
    heads = x.reshape(B, T, H, K)
    table = jnp.outer(jnp.arange(T), 1.0 / 7.0 ** jnp.arange(K // 2))
    table = jnp.concatenate([table, table], axis=-1)[:, None]
    across = jnp.concatenate([-heads[..., K // 2 :], heads[..., : K // 2]], axis=-1)
    heads = heads * jnp.cos(table) + across * jnp.sin(table)
    return heads.reshape(B, T, H * K)


def repeated(x):
    values = jnp.repeat(x, 2, axis=1)
    return jnp.tanh(values) + jnp.roll(values, 1, axis=0)


def turned_and_repeated(x):
    values = turned(x)
    values = jnp.repeat(values, 2, axis=1)
    return jnp.tanh(values) + jnp.roll(values, 1, axis=0)


def test_a_call_too_many_is_named_and_not_the_table_in_it():
    found = verify(dense.then(repeated, turned_and_repeated, X), samples=1)
    assert found.verdict == "different"
    assert found.divergence.nnx.source == "values = turned(x)"


def waves(x):
    return jnp.tanh(jnp.sin(x))


class Grouped(nn.Module):
    activation: object
    use_bias: bool

    @nn.compact
    def __call__(self, x):
        values = nn.DenseGeneral((H, K), use_bias=False, name="values")(x)
        values = jnp.repeat(values, 2, axis=2)
        out = nn.DenseGeneral(3, axis=(-2, -1), use_bias=self.use_bias, name="out")
        return out(self.activation(values))


class PortGrouped(nnx.Module):
    """Makes heads of the results."""

    def __init__(self, activation, use_bias, turns, rngs):
        self.values = nnx.Linear(H * K, H * K, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(2 * H * K, 3, use_bias=use_bias, rngs=rngs)
        self.activation, self.turns = activation, turns

    def __call__(self, x):
        values = self.values(x).reshape(B, T, H, K)
        if self.turns:
            values = turned(values).reshape(B, T, H, K)
        values = jnp.repeat(values, 2, axis=2)
        return self.out(self.activation(values).reshape(B, T, 2 * H * K))


@pytest.mark.parametrize(
    ("options", "reason", "line"),
    [
        (
            (jnp.tanh, True),
            "NNX computes add (2, 5, 2, 4), Linen has nothing",
            "values = nn.DenseGeneral(",
        ),
        (
            (waves, False),
            "NNX computes mul (2, 5, 2, 4), Linen has nothing",
            "values = nn.DenseGeneral(",
        ),
    ],
)
def test_a_call_too_many_is_named_where_heads_are_made_of_results(options, reason, line):
    def pair(turns):
        return Pair(Grouped(*options), lambda rngs: PortGrouped(*options, turns, rngs), X)

    assert verify(pair(turns=False), samples=1).verdict in PASSES
    found = verify(pair(turns=True), samples=1)
    assert found.divergence.reason.startswith(reason)
    assert found.divergence.linen.source.startswith(line)
    assert found.divergence.nnx.source == "values = turned(values).reshape(B, T, H, K)"


def test_activations_are_told_by_their_functions():
    found = verify(dense.then(nn.gelu, exact_gelu, X), samples=1)
    assert found.divergence.reason == "tanh (2, 5, 8) in Linen, erfc (2, 5, 8) in NNX"
    assert found.divergence.nnx.source == "return nn.gelu(x, approximate=False)"


def exact_gelu(x):
    return nn.gelu(x, approximate=False)


def rms(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale


class Norms(nn.Module):
    """Norms of one shape, with names that share words with all and tell nothing."""

    @nn.compact
    def __call__(self, x):
        def norm(name, x):
            return rms(x, self.param(name, nn.initializers.ones, (H * K,)))

        x = x + 0.5 * nn.Dense(H * K, name="ff1_up")(norm("ff1_norm", x))
        x = x + nn.Dense(H * K, name="attn")(norm("attn_norm", x))
        x = x + 0.5 * nn.Dense(H * K, name="ff2_up")(norm("ff2_norm", x))
        return norm("last_norm", x)


class Layers(nn.Module):
    @nn.compact
    def __call__(self, x):
        for n in range(2):
            x = Norms(name=f"layer_{n}")(x)
        return jnp.tanh(x)


class PortNorm(nnx.Module):
    """The same formula, written in another way."""

    def __init__(self):
        self.w = nnx.Param(jnp.ones(H * K))

    def __call__(self, x):
        return self.w[...] * (x / jnp.sqrt(jnp.square(x).mean(axis=-1, keepdims=True) + 1e-6))


class PortFeedForward(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.up = PortNorm(), nnx.Linear(H * K, H * K, rngs=rngs)

    def __call__(self, x):
        return self.up(self.norm(x))


class PortNorms(nnx.Module):
    def __init__(self, rngs):
        self.before, self.after = PortFeedForward(rngs), PortFeedForward(rngs)
        self.n1, self.n2 = PortNorm(), PortNorm()
        self.attend = nnx.Linear(H * K, H * K, rngs=rngs)

    def __call__(self, x, half):
        x = x + self.before(x) / 2
        x = x + self.attend(self.n1(x))
        x = x + half * self.after(x)
        return self.n2(x)


class PortLayers(nnx.Module):
    def __init__(self, half, rngs):
        self.layers, self.half = nnx.List([PortNorms(rngs) for _ in range(2)]), half

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x, self.half)
        return jnp.tanh(x)


@pytest.mark.thorough
def test_weights_that_names_do_not_tell_apart_go_in_the_order_of_their_use():
    assert (
        verify(Pair(Layers(), lambda rngs: PortLayers(0.5, rngs), X), samples=1).verdict in PASSES
    )
    found = verify(Pair(Layers(), lambda rngs: PortLayers(0.25, rngs), X), samples=1)
    rows = {row["linen"]: row["nnx"] for row in found.rows if row["linen"].endswith("norm")}
    for layer in "01":
        for norm, own in (
            ("ff1", "before/norm"),
            ("attn", "n1"),
            ("ff2", "after/norm"),
            ("last", "n2"),
        ):
            assert rows[f"params/layer_{layer}/{norm}_norm"] == f"params/layers/{layer}/{own}/w"
    assert found.divergence.nnx.source == "x = x + half * self.after(x)"
    assert found.divergence.linen.source.startswith('x = x + 0.5 * nn.Dense(H * K, name="ff2_up")')


def penalised(x):
    distance = jnp.abs(jnp.arange(T)[:, None] - jnp.arange(T)[None, :])
    slopes = 2.0 ** -jnp.arange(1.0, 1 + B)
    scores = jnp.einsum("bqf,bkf->bqk", x, x) - slopes[:, None, None] * distance
    logits = jax.nn.softmax(scores, axis=-1) @ x
    target = jax.nn.one_hot(jnp.zeros(T, int), H * K) * 0.9 + 0.1 / (H * K)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1))


def penalty():
    away = jnp.arange(T)[:, None] - jnp.arange(T)[None, :]
    return -jnp.abs(away) * 2.0 ** -jnp.arange(1.0, 1 + B)[:, None, None]


def smoothed(smoothing):
    def then(x):
        scores = jnp.einsum("bqf,bkf->bqk", x, x) + penalty()
        logits = jax.nn.softmax(scores, axis=-1) @ x
        known = jax.nn.log_softmax(logits)
        first, smooth = -known[..., 0], -known.mean(axis=-1)
        return jnp.mean((1 - smoothing) * first + smoothing * smooth)

    return then


@pytest.mark.thorough
def test_what_is_right_but_written_in_another_way_takes_no_blame():
    assert verify(dense.then(penalised, smoothed(0.1), X), samples=1).verdict in PASSES
    found = verify(dense.then(penalised, smoothed(0.2), X), samples=1)
    assert found.divergence.linen.source.startswith(("target = ", "return -jnp.mean"))
    assert found.divergence.nnx.source.startswith(("first, smooth = ", "return jnp.mean("))
