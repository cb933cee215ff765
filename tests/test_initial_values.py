"""What a port starts with beside its params is told where it is other than the model's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.verification import initial
from tests.ports import resnet, transformer

F = 8
X = (jax.ShapeDtypeStruct((4, F), "float32"),)
FASTER = np.linspace(1.0, 2.0, F, dtype=np.float32)


class Waves(nn.Module):
    @nn.compact
    def __call__(self, x):
        rates = self.variable("tables", "rates", lambda: jnp.linspace(0.0, 1.0, F))
        return nn.Dense(F)(x) * jnp.cos(rates.value)


class Table(nnx.Variable):
    pass


class PortWaves(nnx.Module):
    def __init__(self, rates, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)
        self.rates = Table(rates)

    def __call__(self, x):
        return self.dense(x) * jnp.cos(self.rates[...])


def waves(rates):
    return Pair(Waves(), lambda rngs: PortWaves(rates, rngs), X)


def test_a_table_with_other_numbers_is_named():
    found = verify(waves(FASTER), samples=1)
    assert found.verdict == "identical"
    assert found.remark == "starts with other numbers in NNX, load them: tables/rates"


def test_a_table_that_numpy_made_is_the_same():
    assert verify(waves(np.linspace(0.0, 1.0, F, dtype=np.float32)), samples=1).remark == ""


@pytest.mark.parametrize("pair", [resnet.PAIR, transformer.PAIR], ids=["resnet", "transformer"])
def test_statistics_and_params_start_alike(pair):
    assert verify(pair, samples=1, checks=("structure", "programs")).remark == ""


def test_what_is_too_large_is_not_made(monkeypatch):
    monkeypatch.setattr(initial, "MAX_BYTES", 16)
    assert verify(waves(FASTER), samples=1).remark == ""
