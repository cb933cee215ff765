"""What differs in dtype alone: weights are paired and it is said, of results the first is named."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, find_weight_map, verify
from shared.report.result import PASSES, DifferentError

D, F = 6, 10
HALF = jnp.bfloat16
X = (jax.ShapeDtypeStruct((3, D), "float32"),)


class Model(nn.Module):
    dtype: jnp.dtype = HALF

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(F, dtype=self.dtype)(x)
        h = nn.LayerNorm(dtype=jnp.float32)(h)
        return nn.Dense(D, dtype=self.dtype)(nn.silu(h))


class Port(nnx.Module):
    """`linear` makes both products."""

    linear = functools.partial(nnx.Linear, dtype=HALF)

    def __init__(self, rngs):
        self.up = self.linear(D, F, rngs=rngs)
        self.norm = nnx.LayerNorm(F, dtype=jnp.float32, rngs=rngs)
        self.down = self.linear(F, D, rngs=rngs)

    def __call__(self, x):
        h = self.up(x)
        h = self.norm(h)
        return self.down(nnx.silu(h))


class Stored(Port):
    """Stores its weights in half precision, and computes in it."""

    linear = functools.partial(nnx.Linear, dtype=HALF, param_dtype=HALF)


class StoredInstead(Port):
    """param_dtype where dtype was meant."""

    linear = functools.partial(nnx.Linear, param_dtype=HALF)


class OneStored(Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.down.kernel = nnx.Param(self.down.kernel[...].astype(HALF))


class Preferred(Port):
    """Products stay in float32."""

    linear = functools.partial(nnx.Linear, dtype=HALF, preferred_element_type=jnp.float32)


class CastAtTheEnd(Port):
    def __call__(self, x):
        y = super().__call__(x)
        return y.astype(jnp.float32)


class Layers(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = nn.tanh(nn.Dense(D)(x))
        return x


class LayersPort(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(D, D, param_dtype=HALF, rngs=rngs) for _ in range(3)])

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.tanh(layer(x))
        return x


def pair(port, model=Model):
    return Pair(model(), lambda rngs: port(rngs), X)


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (Stored, "4 weights are float32 in Linen, bfloat16 in NNX: param_dtype?"),
        (
            StoredInstead,
            "4 weights are float32 in Linen, bfloat16 in NNX: param_dtype?; "
            "output: bfloat16[3,6] in Linen, float32[3,6] in NNX",
        ),
        (OneStored, "params/down/kernel is float32 in Linen, bfloat16 in NNX: param_dtype?"),
    ],
)
def test_weights_of_another_dtype_are_paired_and_said_in_one_sentence(port, said):
    found = verify(pair(port), checks=("structure",))
    assert (found.verdict, found.remark) == ("different", said)
    assert (found.unmatched_linen, found.unmatched_nnx) == ([], [])
    assert {(row["linen"], row["nnx"]) for row in found.rows} == {
        ("params/Dense_0/kernel", "params/up/kernel"),
        ("params/Dense_0/bias", "params/up/bias"),
        ("params/LayerNorm_0/scale", "params/norm/scale"),
        ("params/LayerNorm_0/bias", "params/norm/bias"),
        ("params/Dense_1/kernel", "params/down/kernel"),
        ("params/Dense_1/bias", "params/down/bias"),
    }


def test_layers_of_another_dtype_are_paired_in_order():
    found = verify(pair(LayersPort, Layers), checks=("structure",))
    assert found.remark == "6 weights are float32 in Linen, bfloat16 in NNX: param_dtype?"
    assert all(row["linen"][13] == row["nnx"][14] for row in found.rows), found.rows


def test_no_map_moves_weights_to_another_dtype():
    with pytest.raises(DifferentError, match="float32 in Linen, bfloat16 in NNX"):
        find_weight_map(pair(Stored))


def test_the_same_dtypes_are_equal():
    found = verify(pair(Port), checks=("forward",), samples=1)
    assert (found.verdict in PASSES, found.remark) == (True, "")


@pytest.mark.parametrize(
    ("port", "linen", "nnx"),
    [
        (Preferred, "h = nn.Dense(F, dtype=self.dtype)(x)", "h = self.up(x)"),
        (
            CastAtTheEnd,
            "return nn.Dense(D, dtype=self.dtype)(nn.silu(h))",
            "return y.astype(jnp.float32)",
        ),
    ],
)
def test_results_of_another_type_are_named_where_it_begins(port, linen, nnx):
    found = verify(pair(port), checks=("structure",))
    assert found.remark == "output: bfloat16[3,6] in Linen, float32[3,6] in NNX"
    assert (found.divergence.linen.source, found.divergence.nnx.source) == (linen, nnx)
    assert found.divergence.reason.endswith("float32 in NNX")


class Halved(nn.Module):
    """Its loss is so steep that the steps of training are shortened."""

    @nn.compact
    def __call__(self, x):
        return 300 * nn.Dense(D, dtype=HALF, param_dtype=HALF, name="dense")(x)


class PortHalved(nnx.Module):
    def __init__(self, rngs, factor=300):
        self.dense = nnx.Linear(D, D, dtype=HALF, param_dtype=HALF, rngs=rngs)
        self.factor = factor

    def __call__(self, x):
        return self.factor * self.dense(x)


@pytest.mark.parametrize(("factor", "status"), [(300, "equal"), (-300, "different")])
def test_params_in_half_precision_are_trained_in_it(factor, status):
    found = verify(Pair(Halved(), lambda rngs: PortHalved(rngs, factor), X), ["training"])
    (check,) = (check for check in found.checks if check.name == "training")
    assert check.status == status
