"""Mistakes that random samples of the usual size do not show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.models.pure_pair import pure_pair
from shared.program.whole_numbers import WholeNumbers, whole_numbers
from shared.report.result import PASSES
from shared.verification.ported import Ported
from shared.verification.programs import program
from tests.ports import dense

F = 8
X = (jax.ShapeDtypeStruct((4, F), "float32"),)


def pair(linen, nnx, inputs=X):
    return dense.then(linen, nnx, inputs)


def relu6(x):
    return nn.relu6(x)


def relu(x):
    return nn.relu(x)


def test_a_limit_that_only_large_numbers_reach():
    found = verify(pair(relu6, relu))
    assert found.verdict == "different"
    assert "min" in found.divergence.reason
    assert found.divergence.linen.source == "return nn.relu6(x)"
    forward = next(check for check in found.checks if check.name == "forward")
    assert forward.note == "they part where inputs are 10 times as large"


def test_what_masks_is_no_limit():
    """Two ways to mask: a large number is as good as the largest."""

    def masked(low):
        # A hundred times as large, the scores are what the smaller mask is.
        return lambda x: jax.nn.softmax(jnp.where(np.tri(4, F, dtype=bool), -1e7 * jnp.abs(x), low))

    assert verify(pair(masked(-1e9), masked(np.finfo(np.float32).min))).verdict == "equal"


def test_a_straight_through_gradient_with_another_limit():
    def sign(limit):
        @jax.custom_vjp
        def sign(x):
            return jnp.sign(x)

        def backward(x, g):
            return (jnp.where(jnp.abs(x) <= limit, g, 0.0),)

        sign.defvjp(lambda x: (sign(x), x), backward)
        return sign

    found = verify(pair(sign(10.0), sign(20.0)))
    assert found.verdict == "different"
    assert found.divergence.reason == "le: 10 in Linen, 20 in NNX"
    assert verify(pair(sign(10.0), sign(10.0))).verdict == "identical"


def late(x, count):
    return jnp.where(count > 5, jnp.tanh(x), x)


def late_sine(x, count):
    return jnp.where(count > 5, jnp.sin(x), x)


def cond(x, count):
    return jax.lax.cond(count > 5, jnp.tanh, lambda x: x, x)


@pytest.mark.parametrize("linen", [late, cond], ids=["where", "cond"])
def test_what_a_condition_for_all_elements_does_not_choose(linen):
    inputs = (*X, jnp.int32(0))
    assert verify(pair(linen, late, inputs)).verdict in ("identical", "equal")
    found = verify(pair(linen, late_sine, inputs))
    assert found.verdict == "different"
    assert found.divergence.reason == "tanh (4, 8) in Linen, sin (4, 8) in NNX"


def far(then):
    return lambda x: jnp.where(jnp.max(x) > 1e12, then(x), x)


def test_what_a_condition_that_no_sample_meets_would_choose():
    assert verify(pair(far(jnp.tanh), far(jnp.tanh))).verdict == "identical"
    found = verify(pair(far(jnp.tanh), far(jnp.sin)))
    assert found.verdict == "different"
    assert found.divergence.reason == "tanh (4, 8) in Linen, sin (4, 8) in NNX"


def cut(limit):
    return lambda x: x * (x < limit)


def test_another_number_that_no_sample_is_near():
    found = verify(pair(cut(1e6), cut(2e6)))
    assert found.verdict == "different"
    assert found.divergence.reason == "lt: 1e+06 in Linen, 2e+06 in NNX"


def without(token):
    def then(x, tokens):
        return jnp.where((tokens != token)[:, None], x, 0.0)

    return then


def test_another_number_that_whole_numbers_are_compared_with():
    inputs = (*X, jax.ShapeDtypeStruct((4,), "int32"))
    found = verify(pair(without(103), without(102), inputs))
    assert found.verdict == "different"
    assert found.divergence.reason == "ne: 103 in Linen, 102 in NNX"


def mean_over(labels_that_count):
    def then(x, labels):
        classes = jnp.where(labels < 0, 0, labels)
        losses = -jnp.take_along_axis(jax.nn.log_softmax(x), classes[:, None], axis=-1)[:, 0]
        counts = labels_that_count(labels)
        return jnp.sum(jnp.where(counts, losses, 0.0)) / jnp.maximum(1, jnp.sum(counts))

    return then


@pytest.mark.thorough
def test_labels_to_ignore_are_among_the_samples():
    inputs = (*X, jax.ShapeDtypeStruct((4,), "int32"))
    ignores = mean_over(lambda labels: labels != -100)
    assert verify(pair(ignores, ignores, inputs)).verdict == "identical"
    all_count = mean_over(lambda labels: labels == labels)
    assert verify(pair(ignores, all_count, inputs)).verdict == "different"


@pytest.mark.thorough
def test_numbers_below_zero_are_left_out_where_they_make_none():
    def then(x, labels):
        at = jnp.take_along_axis(x, labels[:, None], axis=-1)[:, 0]
        return at * jnp.sqrt(labels) + (labels != -1)

    inputs = (*X, jax.ShapeDtypeStruct((4,), "int32"))
    assert verify(pair(then, then, inputs)).verdict == "identical"
    other = verify(pair(then, lambda x, labels: 2.0 * then(x, labels) / 2.0, inputs))
    assert other.verdict in ("equal", "close")


def picks(table):
    return lambda x, rows: x * jnp.asarray(table)[rows][:, None]


def test_every_row_of_a_table_is_looked_up():
    table = np.linspace(1.0, 2.0, 12, dtype=np.float32)
    other = table.copy()
    other[[7, 9]] = other[[9, 7]]
    inputs = (*X, jax.ShapeDtypeStruct((4,), "int32"))
    found = verify(pair(picks(table), picks(other), inputs), samples=8)
    assert found.verdict == "different"
    looked_up = np.concatenate([found.ported.inputs(sample)[1] for sample in range(8)])
    assert {7, 9} <= set(looked_up.tolist())


def chooses(last):
    def then(x, which):
        return jax.lax.switch(which, [jnp.tanh, jnp.sin, last], x)

    return then


def selects(last):
    def then(x, which):
        return jnp.select([which == 0, which == 1], [jnp.tanh(x), jnp.sin(x)], last(x))

    return then


@pytest.mark.thorough
def test_a_whole_number_that_is_given_is_not_the_only_one():
    inputs = (*X, jnp.int32(1))
    assert verify(pair(chooses(jnp.abs), selects(jnp.abs), inputs)).verdict == "equal"
    assert verify(pair(chooses(jnp.abs), selects(jnp.cos), inputs)).verdict == "different"


def uses(then, inputs):
    pure = pure_pair(pair(then, then, inputs))
    return whole_numbers([program(pure.linen.apply, pure.linen, pure.inputs).graph])


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (picks(np.ones(12)), WholeNumbers(below=12)),
        (without(103), WholeNumbers(told_apart=frozenset([103]))),
        (lambda x, n: x * jax.nn.one_hot(n, 7).sum(), WholeNumbers(below=7)),
        (lambda x, n: x * n[:, None], None),
    ],
)
def test_what_is_known_of_whole_numbers(then, expected):
    found = uses(then, (*X, jax.ShapeDtypeStruct((4,), "int32"))).get(1)
    if expected and expected.told_apart:
        assert found.told_apart == expected.told_apart
    else:
        assert (found and found.below) == (expected and expected.below)


def test_a_place_in_a_slice():
    def then(x, start):
        return jax.lax.dynamic_slice(x, (start, 0), (2, F))

    assert uses(then, (*X, jnp.int32(0)))[1].below == 3


def test_samples_are_within_what_a_model_takes():
    rng = np.random.default_rng(0)
    numbers = WholeNumbers(below=12, told_apart=frozenset([3, 40])).sample(rng, (1000,))
    assert numbers.min() == 0
    assert numbers.max() == 11
    assert np.isin(numbers, (2, 3, 4)).mean() > 0.5


def test_large_numbers_are_large_in_weights_and_inputs_and_whole_numbers_stay():
    inputs = (*X, jax.ShapeDtypeStruct((4,), "int32"))
    pure = pure_pair(pair(without(1), without(1), inputs))
    programs = (program(model.apply, model, pure.inputs) for model in (pure.linen, pure.nnx))
    ported = Ported(pure, *programs, ())
    usual, large = ported.sample(0), ported.sample(0, inputs=10.0, weights=3.0)
    np.testing.assert_allclose(large.inputs[0], 10.0 * usual.inputs[0], rtol=1e-6)
    np.testing.assert_array_equal(large.inputs[1], usual.inputs[1])
    kernel = "params/dense/kernel"
    np.testing.assert_allclose(large.linen[kernel], 3.0 * usual.linen[kernel], rtol=1e-6)
    assert (usual.is_large, large.is_large) == (False, True)


def test_limits_of_the_user_are_not_widened_to_large_numbers():
    from shared.verification.ported import Limits

    found = verify(pair(relu6, relu), limits=Limits(rtol=1e-3))
    assert found.verdict == "equal"


class Images(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(64)(nn.relu(nn.Dense(64)(x)))))


class PortImages(nnx.Module):
    """The same, summed in another order."""

    def __init__(self, rngs):
        sizes = ((192, 64), (64, 64), (64, 10))
        self.layers = nnx.List([nnx.Linear(*size, rngs=rngs) for size in sizes])

    def __call__(self, x):
        for i, layer in enumerate(self.layers):
            k, half = layer.kernel[...], x.shape[-1] // 2
            x = x[:, :half] @ k[:half] + (x[:, half:] @ k[half:] + layer.bias[...])
            x = nnx.relu(x) if i < 2 else x
        return x


@pytest.mark.thorough
def test_training_with_large_gradients_does_not_explode():
    def images(key):
        return (255.0 * jax.random.uniform(key, (16, 192)),)

    found = verify(Pair(Images(), lambda rngs: PortImages(rngs), images))
    assert found.verdict == "close"


class Scaled(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("logit_scale", nn.initializers.ones, ())
        return x * jnp.exp(jnp.clip(scale, 0.0, 4.6))


class PortScaled(nnx.Module):
    def __init__(self, most, rngs):
        self.scale, self.most = nnx.Param(jnp.ones(())), most

    def __call__(self, x):
        return x * jnp.exp(jnp.clip(self.scale[...], 0.0, self.most))


def test_a_limit_that_only_a_large_temperature_reaches():
    assert verify(Pair(Scaled(), lambda rngs: PortScaled(4.6, rngs), X)).verdict in PASSES
    found = verify(Pair(Scaled(), lambda rngs: PortScaled(100.0, rngs), X))
    assert found.verdict == "different"
    forward = next(check for check in found.checks if check.name == "forward")
    assert forward.note == "they part where weights that are one number are 10"
    assert found.divergence.nnx.source.startswith("return x * jnp.exp(jnp.clip(")


class FarNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(F)(x)
        x = nn.LayerNorm()(x + jnp.einsum("bf->fb", y).T / 2.0)
        return nn.Dense(3)(x)


class FarNormPort(nnx.Module):
    def __init__(self, epsilon, rngs):
        self.inner = nnx.Linear(F, F, rngs=rngs)
        self.norm = nnx.LayerNorm(F, epsilon=epsilon, rngs=rngs)
        self.head = nnx.Linear(F, 3, rngs=rngs)

    def __call__(self, x):
        x = x + self.inner(x) * 0.5
        x = self.norm(x)
        return self.head(x)


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_an_epsilon_is_read_in_the_constants_whatever_is_in_front_of_it(scale):
    def inputs(key):
        return (jax.random.normal(key, (4, F)) * scale,)

    def port(epsilon):
        return Pair(FarNorm(), lambda rngs: FarNormPort(epsilon, rngs), inputs)

    found = verify(port(1e-5), ("programs", "forward"), samples=1)
    assert found.verdict == "different"
    assert found.divergence.reason == "add: 1e-06 in Linen, 1e-05 in NNX"
    assert found.divergence.nnx.source == "x = self.norm(x)"
    assert verify(port(1e-6), ("programs", "forward"), samples=1).verdict in ("equal", "close")
