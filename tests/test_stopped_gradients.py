"""Which side stops a gradient is said of the one that stops it, where it does."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from jax.lax import stop_gradient

from shared import Pair, verify
from shared.report.result import PASSES

D, CODES = 4, 6
X = (jax.ShapeDtypeStruct((2, 5, 3), "float32"),)


class Quantized(nn.Module):
    """The nearest code of each row, which the gradient of the output leaves out."""

    @nn.compact
    def __call__(self, x):
        z = nn.Dense(D, name="encoder")(x)
        codes = self.param("codes", nn.initializers.uniform(1.0), (CODES, D))
        rows = z.reshape(-1, D)
        far = (rows**2).sum(-1, keepdims=True) - 2 * rows @ codes.T + (codes**2).sum(-1)
        q = codes[jnp.argmin(far, -1)].reshape(z.shape)
        commit = jnp.mean((stop_gradient(q) - z) ** 2)
        pull = jnp.mean((q - stop_gradient(z)) ** 2)
        q = z + stop_gradient(q - z)
        return nn.Dense(3, name="decoder")(nn.relu(q)), pull + 0.25 * commit


def nothing(x):
    return x


class Port(nnx.Module):
    """As Quantized, in other words; `stops` says where a gradient is stopped."""

    def __init__(self, rngs, commit=stop_gradient, pull=stop_gradient, out=stop_gradient):
        self.encoder = nnx.Linear(3, D, rngs=rngs)
        uniform = nnx.initializers.uniform(1.0)
        self.codes = nnx.Embed(CODES, D, embedding_init=uniform, rngs=rngs)
        self.decoder = nnx.Linear(D, 3, rngs=rngs)
        self.of_commit, self.of_pull, self.of_out = commit, pull, out

    def __call__(self, x):
        z, codes = self.encoder(x), self.codes.embedding[...]
        cross = jnp.einsum("btd,md->btm", z, codes)
        far = jnp.sum(jnp.square(z), -1)[..., None] - 2.0 * cross
        far = far + jnp.sum(jnp.square(codes), -1)
        q = self.codes(jnp.argmin(far, axis=-1))
        pull = jnp.mean(jnp.square(q - self.of_pull(z)))
        commit = jnp.mean(jnp.square(z - self.of_commit(q)))
        out = z + self.of_out(q - z)
        return self.decoder(nnx.relu(out)), pull + 0.25 * commit


def checked(**stops):
    pair = Pair(Quantized(), lambda rngs: Port(rngs, **stops), X)
    return verify(pair, ("forward", "gradients"), samples=1)


def test_a_port_that_stops_what_linen_stops_passes():
    assert checked().verdict in PASSES


@pytest.mark.parametrize(
    ("which", "linen", "nnx"),
    [
        ("commit", "commit = jnp.mean((stop", "commit = jnp.mean(jnp.square(z - "),
        ("pull", "pull = jnp.mean((q - stop", "pull = jnp.mean(jnp.square(q - "),
        ("out", "q = z + stop_gradient(q - z)", None),  # what NNX lacks has no statement there
    ],
)
def test_one_that_is_not_stopped_is_named_where_linen_stops_it(which, linen, nnx):
    found = checked(**{which: nothing})
    assert found.verdict == "different"
    assert found.divergence.reason == "Linen stops the gradient, NNX does not"
    assert found.divergence.linen.source.startswith(linen)
    assert nnx is None or found.divergence.nnx.source.startswith(nnx)


class Contrast(nn.Module):
    """The softmax subtracts a maximum whose gradient it stops: nobody's mistake."""

    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(D, name="tower")
        one, other = dense(x[0]), stop_gradient(nn.tanh(dense(x[1])))
        logits = one @ other.T
        return -nn.log_softmax(logits).trace() - nn.log_softmax(logits.T).trace()


class PortOfContrast(nnx.Module):
    def __init__(self, rngs, stop):
        self.tower, self.stop = nnx.Linear(3, D, rngs=rngs), stop

    def __call__(self, x):
        one, other = self.tower(x[0]), self.stop(nnx.tanh(self.tower(x[1])))
        logits = one @ other.T
        sums = jax.nn.logsumexp(logits, axis=1) + jax.nn.logsumexp(logits, axis=0)
        return jnp.sum(sums) - 2 * logits.trace()


def test_what_a_softmax_stops_is_not_blamed():
    def checked(stop):
        pair = Pair(Contrast(), lambda rngs: PortOfContrast(rngs, stop), X)
        return verify(pair, ("forward", "gradients"), samples=1)

    assert checked(stop_gradient).verdict in PASSES
    found = checked(nothing)
    assert found.divergence.reason == "Linen stops the gradient, NNX does not"
    assert found.divergence.linen.source.startswith("one, other = dense(x[0]), stop_gradient(")


class Predicting(nn.Module):
    """Each side predicts the other, by which no gradient goes."""

    @nn.compact
    def __call__(self, x):
        tower, predictor = nn.Dense(D, name="tower"), nn.Dense(D, name="predictor")
        a, b = tower(x[0]), tower(x[1])
        p, q = predictor(a), predictor(b)
        towards = jnp.sum(jnp.tanh(p) * stop_gradient(b))
        return towards + jnp.sum(jnp.tanh(q) * stop_gradient(a)) + jnp.sum(a * b)


class PortOfPredicting(nnx.Module):
    def __init__(self, rngs, stop):
        self.tower, self.predictor = nnx.Linear(3, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)
        self.stop = stop

    def __call__(self, x):
        a, b = self.tower(x[0]), self.tower(x[1])
        p = self.predictor(self.stop(a))
        q = self.predictor(b)
        one = jnp.einsum("bd,bd->", jnp.tanh(p), stop_gradient(b))
        other = jnp.einsum("bd,bd->", jnp.tanh(q), stop_gradient(a))
        return one + other + jnp.einsum("bd,bd->", a, b)


@pytest.mark.quick("stop_gradient")
@pytest.mark.parametrize("stop", [nothing, stop_gradient])
def test_a_value_that_is_stopped_for_one_that_takes_it_is_named_there(stop):
    pair = Pair(Predicting(), lambda rngs: PortOfPredicting(rngs, stop), X)
    found = verify(pair, ("forward", "gradients"), samples=1)
    if stop is nothing:
        assert found.verdict in PASSES
        return
    assert found.divergence.reason == "NNX stops the gradient, Linen does not"
    assert found.divergence.linen.source == "p, q = predictor(a), predictor(b)"
    assert found.divergence.nnx.source == "p = self.predictor(self.stop(a))"


class Watched(nn.Module):
    @nn.compact
    def __call__(self, x):
        tower = nn.Dense(D, name="tower")
        a, b = tower(x[0]), tower(x[1])
        seen = stop_gradient(jnp.tanh(b))
        p = nn.Dense(D, name="predictor")(a)
        still = stop_gradient(a) * stop_gradient(b)
        return jnp.sum(seen * a) + jnp.sum(seen * p) + jnp.sum(p * still)


class PortOfWatched(nnx.Module):
    """Stops in front of a tanh, once, what Linen stops behind it: that is the same."""

    def __init__(self, rngs):
        self.tower, self.predictor = nnx.Linear(3, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        a, b = self.tower(x[0]), self.tower(x[1])
        seen, again = jnp.tanh(stop_gradient(b)), stop_gradient(jnp.tanh(b))
        p = self.predictor(stop_gradient(a))
        still = stop_gradient(a) * stop_gradient(b)
        return jnp.sum(seen * a) + jnp.sum(again * p) + jnp.sum(p * still)


def test_a_stop_in_front_of_what_is_stopped_is_not_blamed():
    found = verify(Pair(Watched(), PortOfWatched, X), ("forward", "gradients"), samples=1)
    assert found.verdict == "different"
    assert found.divergence.nnx.source == "p = self.predictor(stop_gradient(a))"
