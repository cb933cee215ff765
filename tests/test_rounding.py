"""Models in half precision: what rounding explains is close, what it does not is different."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES
from shared.verification.limits import Limits

pytestmark = pytest.mark.optimized

F = 32
HALF = jnp.bfloat16


class Sharp(nn.Module):
    """A distribution that is sharp: small changes of what it is of are large in it."""

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(dtype=HALF)(x)
        x = nn.Dense(F, dtype=HALF)(x)
        return nn.softmax(16.0 * x)


class PortSharp(nnx.Module):
    def __init__(self, rngs, norm=nnx.LayerNorm):
        self.norm = norm(F, dtype=HALF, rngs=rngs)
        self.dense = nnx.Linear(F, F, dtype=HALF, rngs=rngs)

    def __call__(self, x, factor=16.0, scores=jnp.float32):
        x = self.norm(x)
        x = factor * self.dense(x).astype(scores)
        return nnx.softmax(x).astype(HALF)


class Norm(nnx.LayerNorm):
    """Rounds its result, as Linen's does, and not its input, as NNX's does."""

    def __init__(self, features, dtype, rngs):
        super().__init__(features, rngs=rngs)

    def __call__(self, x):
        return super().__call__(x).astype(HALF)


PAIR = Pair(
    linen=Sharp(),
    nnx=lambda rngs: PortSharp(rngs, Norm),
    inputs=(jax.ShapeDtypeStruct((16, F), "float32"),),
)


def calls(**more):
    return dataclasses.replace(PAIR, nnx_kwargs=more)


def test_a_port_that_rounds_less_is_close():
    found = verify(PAIR)
    assert found.verdict == "close"
    for check in found.checks:
        if check.name in ("forward", "gradients"):
            assert check.max_rel > 1.6e-2  # beyond the limits
            assert check.note.startswith("equal but for rounding, which moves Linen by 0.")


@pytest.mark.thorough
def test_what_is_there_without_rounding_is_different():
    found = verify(calls(factor=15.0))
    assert found.verdict == "different"
    assert found.divergence.nnx.source == "x = factor * self.dense(x).astype(scores)"


@pytest.mark.thorough
def test_a_port_that_rounds_more_is_different_and_it_is_said_to_be_rounding():
    found = verify(dataclasses.replace(calls(scores=HALF), nnx=lambda rngs: PortSharp(rngs)))
    assert found.verdict == "different"
    forward = next(check for check in found.checks if check.name == "forward")
    assert forward.note.startswith("equal but for rounding")
    assert found.divergence.reason.startswith("NNX computes convert_element_type")
    assert found.divergence.nnx.source == "x = self.norm(x)"


def test_limits_that_are_given_decide_alone():
    limits = Limits(rtol=1e-3, atol=1e-3)
    assert verify(PAIR, limits=limits).verdict == "different"


def test_a_port_that_rounds_where_the_model_does_not_is_different():
    wide = dataclasses.replace(PAIR, linen=nn.Sequential([nn.LayerNorm(), nn.Dense(F), sharpened]))
    assert verify(wide).verdict == "different"


def sharpened(x):
    return nn.softmax(16.0 * x)


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(4, dtype=HALF)(x)


class PortAttention(nnx.Module):
    """Scales the scores, with a number that half precision rounds, where Linen divides queries."""

    def __init__(self, rngs):
        heads = (4, F // 4)
        self.query, self.key, self.value = (
            nnx.LinearGeneral(F, heads, dtype=HALF, rngs=rngs) for _ in range(3)
        )
        self.out = nnx.LinearGeneral(heads, F, axis=(-2, -1), dtype=HALF, rngs=rngs)

    def __call__(self, x, factor=1.0):
        q, k, v = self.query(x), self.key(x), self.value(x)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (factor * (F // 4) ** -0.5)
        return self.out(jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores), v))


ATTENTION = Pair(
    linen=Attention(),
    nnx=lambda rngs: PortAttention(rngs),
    inputs=(jax.ShapeDtypeStruct((2, 5, F), "float32"),),
)


@pytest.mark.thorough
def test_a_constant_that_half_precision_rounds_is_no_mistake():
    assert verify(ATTENTION).verdict == "close"


@pytest.mark.thorough
def test_a_constant_that_is_off_by_more_is_one():
    found = verify(dataclasses.replace(ATTENTION, nnx_kwargs={"factor": 1.02}))
    assert found.verdict == "different"


class Leaky(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(F, dtype=HALF)(nn.leaky_relu(nn.Dense(F, dtype=HALF)(x), 0.01))


class PortLeaky(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = (nnx.Linear(F, F, dtype=HALF, rngs=rngs) for _ in range(2))

    def __call__(self, x, slope=0.02):
        return self.last(nnx.leaky_relu(self.first(x), slope))


def test_a_mistake_that_is_smaller_than_the_limits_is_found():
    pair = Pair(Leaky(), lambda rngs: PortLeaky(rngs), PAIR.inputs)
    found = verify(pair)
    assert found.verdict == "different"
    forward = next(check for check in found.checks if check.name == "forward")
    assert forward.max_rel < 1.6e-2
    assert forward.note == "without rounding they part"
    assert "leaky_relu" in found.divergence.nnx.source
    assert verify(dataclasses.replace(pair, nnx_kwargs={"slope": 0.01})).verdict == "identical"


class Gelu(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.Dense(F, dtype=HALF)(x))
        return nn.Dense(F, dtype=HALF)(x)


class PortGelu(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = (nnx.Linear(F, F, dtype=HALF, rngs=rngs) for _ in range(2))

    def __call__(self, x, approximate=False):
        x = nnx.gelu(self.first(x), approximate=approximate)
        return self.last(x)


@pytest.mark.thorough
def test_an_exact_gelu_for_the_one_of_tanh_is_a_mistake_however_near_it_is():
    pair = Pair(Gelu(), lambda rngs: PortGelu(rngs), PAIR.inputs)
    found = verify(pair)
    assert found.verdict == "different"
    shape = (*PAIR.inputs[0].shape[:-1], F)
    assert found.divergence.reason == f"tanh {shape} in Linen, erfc {shape} in NNX"
    assert found.divergence.linen.source == "x = nn.gelu(nn.Dense(F, dtype=HALF)(x))"
    assert found.divergence.nnx.source.startswith("x = nnx.gelu(self.first(x)")
    assert (
        verify(dataclasses.replace(pair, nnx_kwargs={"approximate": True})).verdict != "different"
    )


class Exchanged(PortGelu):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.between = nnx.Linear(F, F, dtype=HALF, rngs=rngs)

    def __call__(self, x, first=True):
        x = nnx.gelu(self.first(x), approximate=first)
        x = nnx.gelu(self.between(x), approximate=not first)
        return self.last(x)


def both_gelus(x):
    x = nn.gelu(nn.Dense(F, dtype=HALF)(x))
    x = nn.gelu(nn.Dense(F, dtype=HALF)(x), approximate=False)
    return nn.Dense(F, dtype=HALF)(x)


class BothGelus(nn.Module):
    @nn.compact
    def __call__(self, x):
        return both_gelus(x)


@pytest.mark.thorough
def test_an_exact_gelu_and_one_of_tanh_that_are_exchanged_are_a_mistake():
    pair = Pair(BothGelus(), lambda rngs: Exchanged(rngs), PAIR.inputs)
    assert verify(pair).verdict in PASSES
    found = verify(dataclasses.replace(pair, nnx_kwargs={"first": False}))
    assert found.verdict == "different"
    assert found.divergence.nnx.source.startswith("x = nnx.gelu(self.first(x)")


class Stack(nn.Module):
    layers: int = 3

    @nn.compact
    def __call__(self, x):
        for i in range(self.layers):
            x = nn.gelu(nn.Dense(F, dtype=HALF, name=f"layer_{i}")(x))
        return nn.Dense(F, dtype=jnp.float32, name="last")(x)


class PortOfStack(nnx.Module):
    """With one layer in float32, if `wide` is its number."""

    def __init__(self, layers, wide, rngs):
        dtypes = [jnp.float32 if i == wide else HALF for i in range(layers)]
        self.layers = nnx.List([nnx.Linear(F, F, dtype=dtype, rngs=rngs) for dtype in dtypes])
        self.last = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x, wide=False):
        for layer in self.layers:
            h = layer(x)
            x = nnx.gelu(h.astype(jnp.float32) if wide else h)
        return self.last(x)


@pytest.mark.parametrize(("layers", "wide"), [(1, 0), (3, 1)])
def test_a_layer_that_is_not_in_half_precision_is_named(layers, wide):
    """And not a constant behind it, which is rounded where Linen's is not."""
    port = functools.partial(PortOfStack, layers, wide)
    found = verify(Pair(Stack(layers), port, PAIR.inputs), samples=1)
    assert found.verdict == "different"
    assert found.divergence.nnx.source == "h = layer(x)"


def test_where_the_precision_is_another_is_said_of_what_is_close():
    right, wide = (
        verify(
            Pair(Stack(), functools.partial(PortOfStack, 3, None), PAIR.inputs, **more),
            checks=("structure", "forward"),
            samples=1,
        )
        for more in ({}, {"nnx_kwargs": {"wide": True}})
    )
    assert right.verdict in ("identical", "equal")
    assert not right.remark
    assert wide.verdict == "close"
    assert wide.remark.startswith("NNX computes integer_pow in float32, Linen in bfloat16: ")
    assert wide.remark.endswith(": x = nnx.gelu(h.astype(jnp.float32) if wide else h)")


class Scored(nn.Module):
    @nn.compact
    def __call__(self, x):
        q, k = (nn.Dense(F, use_bias=False, dtype=HALF, name=name)(x) for name in ("q", "k"))
        scores = jnp.einsum("qd,kd->qk", q, k, preferred_element_type=jnp.float32)
        scores = scores * 4.0
        return nn.softmax(scores).astype(HALF) @ x.astype(HALF)


class PortOfScored(nnx.Module):
    def __init__(self, rngs):
        kinds = {"use_bias": False, "dtype": HALF, "rngs": rngs}
        self.q, self.k = nnx.Linear(F, F, **kinds), nnx.Linear(F, F, **kinds)

    def __call__(self, x, preferred=None):
        scores = jnp.einsum("qd,kd->qk", self.q(x), self.k(x), preferred_element_type=preferred)
        scores = scores * 4.0
        return nnx.softmax(scores).astype(HALF) @ x.astype(HALF)


def test_a_product_that_is_rounded_is_named_and_not_what_it_is_rounded_with():
    x = (jax.ShapeDtypeStruct((6, F), "float32"),)
    pair = Pair(Scored(), PortOfScored, x, nnx_kwargs={"preferred": jnp.float32})
    checks = ("structure", "forward")
    assert verify(pair, checks, samples=1).verdict in PASSES
    found = verify(dataclasses.replace(pair, nnx_kwargs={}), checks, samples=1)
    assert found.verdict == "different"
    assert found.divergence.reason == "dot_general float32 in Linen, bfloat16 in NNX"
    assert found.divergence.linen.source.startswith('scores = jnp.einsum("qd,kd->qk", q, k, ')
    assert found.divergence.nnx.source.startswith('scores = jnp.einsum("qd,kd->qk", self.q(x)')
