"""Training mode is compared where a pair says how its models are called in it, or Flax does."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.models.switches import Switches

X = (jax.ShapeDtypeStruct((3, 4), "float32"),)


class Model(nn.Module):
    @nn.compact
    def __call__(self, x, mode="predict"):
        y = nn.Dense(2)(x)
        return jnp.tanh(y) if mode == "fit" else y


class Port(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x, mode="predict"):
        y = self.dense(x)
        return nnx.relu(y) if mode == "fit" else y


def test_a_training_call_of_words_of_ones_own_is_compared():
    words = {"mode": "fit"}
    pair = Pair(
        Model(),
        lambda rngs: Port(rngs),
        X,
        linen_train_kwargs=words,
        nnx_train_kwargs=words,
    )
    found = verify(pair, samples=1)
    statuses = {check.name: check.status for check in found.checks}
    assert (statuses["forward"], statuses["training_mode"]) == ("equal", "different")
    assert "tanh" in found.divergence.linen.source


def test_statistics_of_spectral_norms_are_updated_in_training():
    def build(rngs):
        return nnx.SpectralNorm(nnx.Linear(4, 2, rngs=rngs), update_stats=False, rngs=rngs)

    pair = Pair(nn.SpectralNorm(nn.Dense(2)), build, X, linen_kwargs={"update_stats": False})
    found = verify(pair, ("forward",), samples=1)
    assert found.ported.pair.linen.switches == {"update_stats"}
    assert found.ported.pair.nnx.switches == {"use_running_average"}


def test_a_switch_behind_a_star_is_switched_by_its_name():
    def call(*args, train=False):
        return args, train

    args, words = Switches(training=True).call(call, (1, 2, 3), {"train": False})
    assert (args, words) == ((1, 2, 3), {"train": True})


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))


class PortNorm(nnx.Module):
    def __init__(self, rngs, frozen):
        self.dense, self.norm = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.frozen = frozen

    def __call__(self, x, train=False):
        return self.norm(self.dense(x), use_running_average=self.frozen or not train)


def test_what_is_fixed_inside_of_a_training_call_is_left_as_it_is():
    right = verify(Pair(Norm(), lambda rngs: PortNorm(rngs, False), X), samples=1)
    assert (right.verdict, right.checks[-2].name) == ("identical", "training_mode")
    frozen = verify(Pair(Norm(), lambda rngs: PortNorm(rngs, True), X), samples=1)
    assert (frozen.verdict, frozen.remark) == ("different", "equal when deterministic")
    assert "self.norm(self.dense(x)" in frozen.divergence.nnx.source
