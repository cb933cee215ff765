"""Masks that are given as floating numbers: 0 and 1 are all that models agree on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.models.inputs import masks
from shared.report.result import PASSES

F = 4


class Message(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        return nn.Dense(3)(nn.relu(nn.Dense(6)(x))) * mask[:, None]


class Port(nnx.Module):
    """Masks what goes in as well, which changes nothing where the mask is 0 or 1."""

    def __init__(self, rngs):
        self.inner = nnx.Linear(F, 6, rngs=rngs)
        self.outer = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x, mask):
        mask = mask[:, None]
        return self.outer(nnx.relu(self.inner(x * mask))) * mask


class Half(Port):
    """Masks what goes in, and not what comes out."""

    def __call__(self, x, mask):
        return self.outer(nnx.relu(self.inner(x * mask[:, None])))


class Stopped(Port):
    """The gradient by the other input is lost."""

    def __call__(self, x, mask):
        return super().__call__(jax.lax.stop_gradient(x), mask)


def drawn(key):
    mask = jax.random.bernoulli(key, 0.6, (5,)).at[:2].set(jnp.array([True, False]))
    return jax.random.normal(key, (5, F)), mask.astype("float32")


GIVEN = (np.ones((5, F), np.float32), np.array([1, 0, 1, 1, 0], np.float32))
SOME = (np.ones((5, F), np.float32), np.array([1, 0.5, 1, 1, 0], np.float32))


@pytest.mark.parametrize("inputs", [drawn, GIVEN], ids=["drawn", "given"])
def test_a_gradient_by_a_mask_is_no_difference(inputs):
    pair = Pair(Message(), lambda rngs: Port(rngs), inputs)
    found = verify(pair, ("forward", "gradients"), samples=2)
    assert found.verdict in PASSES
    note = {check.name: check.note for check in found.checks}["gradients"]
    assert note.startswith("not by input 1") or "float64" in note


@pytest.mark.parametrize("port", [Half, Stopped])
def test_what_the_mask_and_the_other_input_do_is_compared(port):
    pair = Pair(Message(), lambda rngs: port(rngs), drawn)
    found = verify(pair, ("forward", "gradients"), samples=1)
    statuses = {check.name: check.status for check in found.checks}
    assert found.verdict == "different"
    assert statuses["gradients" if port is Stopped else "forward"] == "different"


def test_what_is_between_0_and_1_is_no_mask():
    found = verify(Pair(Message(), lambda rngs: Port(rngs), SOME), ("forward",))
    assert found.verdict == "different"


def test_which_inputs_are_masks():
    assert masks(drawn) == {1}
    assert masks(GIVEN) == {1}  # ones alone are numbers to begin with
    assert masks(SOME) == set()
    assert masks((jax.ShapeDtypeStruct((2,), "float32"), jnp.array([0, 1]))) == set()
