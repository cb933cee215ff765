"""What a backend cannot run, or rounds because it was asked to, is no fault of the port."""

from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.models.gradients import CannotRunError
from tests.ports import deep

X = (jax.ShapeDtypeStruct((2, 5, 8), "float32"),)


class Attention(nn.Module):
    dtype: object
    scale: float = 0.5

    @nn.compact
    def __call__(self, x):
        q, k, v = (nn.DenseGeneral((2, 4), dtype=self.dtype, name=name)(x) for name in "qkv")
        weights = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
        weights = nn.softmax(weights * self.scale).astype(self.dtype)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


class Port(nnx.Module):
    def __init__(self, dtype, scale, rngs):
        self.q, self.k, self.v = (
            nnx.LinearGeneral(8, (2, 4), dtype=dtype, rngs=rngs) for _ in range(3)
        )
        self.scale = scale

    def __call__(self, x):
        return jax.nn.dot_product_attention(self.q(x), self.k(x), self.v(x), scale=self.scale)


def pair(dtype, scale=0.5):
    return Pair(Attention(dtype), lambda rngs: Port(dtype, scale, rngs), X)


def test_a_precision_that_this_backend_has_not_is_computed_operation_by_operation():
    found = verify(pair(jnp.float16))
    assert found.verdict in ("equal", "close")
    notes = {check.name: check.note for check in found.checks}
    for name in ("forward", "gradients", "training"):
        assert "XLA cannot run it here: The precision 'F16_F16_F32'" in notes[name]
    assert "XLA" not in notes["programs"]


def test_a_mistake_is_found_where_the_backend_cannot_run_the_port():
    found = verify(pair(jnp.float16, scale=0.6), ("programs", "forward"))
    assert found.verdict == "different"


@pytest.mark.quick("float32")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32], ids=["bfloat16", "float32"])
def test_a_precision_that_a_product_asks_for_by_name_does_not_round_the_exact_values(dtype):
    assert verify(pair(dtype)).verdict in ("equal", "close")


@pytest.mark.thorough
def test_with_it_a_wrong_scale_is_a_difference():
    assert verify(pair(jnp.bfloat16, scale=0.51), ("programs", "forward")).verdict == "different"


def test_a_scan_that_this_backend_cannot_run_is_unrolled():
    """One iteration stands for all in the programs, and cannot be computed."""
    cannot = CannotRunError("it is not asked to")
    with (
        mock.patch("shared.verification.runs.run_forward", side_effect=cannot),
        mock.patch("shared.verification.runs.run", side_effect=cannot),
    ):
        found = verify(deep.PAIR, ("forward", "gradients"), samples=1)
    assert {check.name: check.status for check in found.checks} == {
        "structure": "equal",
        "forward": "equal",
        "gradients": "equal",
    }
    assert found.ported.is_unrolled
