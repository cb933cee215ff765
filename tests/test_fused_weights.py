"""Weights in one on one side and apart on the other: found, told, and moved without loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from helpers import assert_identical, moved_there_and_back

from shared import Pair, find_weight_map, verify
from shared.errors import InputError
from shared.program.view import View
from shared.report.result import PASSES
from shared.trees import escape
from tests.ports import fused

QKV = {
    "params/attention/query/kernel": "params/qkv/kernel[:, 0:4]",
    "params/attention/query/bias": "params/qkv/bias[0:4]",
}


@pytest.mark.quick("plain")
@pytest.mark.parametrize("pair", [fused.LSTM, fused.PLAIN_LSTM], ids=["optimized", "plain"])
def test_lstm_cells_of_flax_are_equal(pair):
    assert verify(pair, samples=1).verdict in PASSES


def test_linens_gru_has_a_bias_that_nnxs_has_not():
    found = verify(fused.STOCK_GRU, samples=1)
    assert found.verdict == "different"
    assert (found.unmatched_linen, found.unmatched_nnx) == (["params/cell/hn/bias"], [])
    assert found.divergence.nnx.source == "return self.rnn(x)"


def test_a_port_that_fuses_by_itself_has_another_structure():
    found = verify(fused.attention(), samples=1)
    assert found.verdict == "different"
    assert found.remark.startswith("different structure: Linen's params/attention/key/kernel, ")
    assert "are parts of NNX's params/qkv/kernel" in found.remark
    assert "jnp.split(self.qkv(x), 3" in found.divergence.nnx.source
    assert "nn.Dense(F, name=name)(x)" in found.divergence.linen.source


def test_the_remark_names_the_map_with_which_the_port_is_equal():
    remark = verify(fused.attention(), samples=1).remark
    pins = ", ".join(f'"{linen}": "{nnx}"' for linen, nnx in QKV.items())
    assert remark.endswith(f"say so: weight_map={{{pins}}}")
    assert verify(fused.attention(**QKV), samples=1).verdict in PASSES


def test_a_map_that_takes_key_for_query_is_different():
    crossed = {linen: nnx.replace("0:4", "4:8") for linen, nnx in QKV.items()}
    assert verify(fused.attention(**crossed), samples=1).verdict == "different"


@pytest.mark.thorough
def test_one_pin_speaks_for_all_layers():
    pins = {
        "params/ScanAttention_0/query/kernel[0]": "params/blocks/0/qkv/kernel[:, 0:4]",
        "params/ScanAttention_0/query/bias[0]": "params/blocks/0/qkv/bias[0:4]",
    }
    assert verify(fused.stack(), samples=1).verdict == "different"
    assert verify(fused.stack(**pins), samples=1).verdict in PASSES


@pytest.mark.thorough
def test_gru_by_hand_is_equal_once_its_map_is_said():
    pair = fused.recurrent(
        nn.GRUCell(fused.F),
        fused.GRU,
        **{
            "params/cell/ir/kernel": "params/rnn/cell/x/kernel[:, 0:4]",
            "params/cell/ir/bias": "params/rnn/cell/x/bias[0:4]",
            "params/cell/hr/kernel": "params/rnn/cell/h/kernel[:, 0:4]",
        },
    )
    # Its kernels start as those of nnx.Linear do, Linen's are orthogonal.
    assert verify(pair, samples=1).remark == "equal with the same weights"
    loaded = dataclasses.replace(pair, initial="loaded")
    assert verify(loaded, samples=1).verdict in PASSES


def test_parts_are_moved_both_ways_without_loss(tmp_path):
    weights = find_weight_map(fused.LSTM)
    weights.save(str(tmp_path / "map.json"))
    weights = type(weights).load(str(tmp_path / "map.json"))
    _, linen, moved, back = moved_there_and_back(fused.LSTM, weights)
    kernel = moved["params/rnn/cell/dense_i/kernel"]
    np.testing.assert_array_equal(kernel[:, :4], linen["params/cell/ii/kernel"])
    assert_identical(linen, back)


@pytest.mark.parametrize(
    ("linen", "nnx", "message"),
    [
        ("params/query", "params/qkv/kernel", "Linen has no leaf params/query; the nearest: "),
        (
            "params/attention/query/kernel",
            "params/qkv/kernel[:, 8:16]",
            "is not in a leaf of shape (4, 12)",
        ),
        (
            "params/attention/query/kernel",
            "params/qkv/kernel[::2]",
            "expected ::2 to be a number, a range or a colon",
        ),
    ],
)
def test_pins_of_what_is_not_there(linen, nnx, message):
    with pytest.raises(InputError) as error:
        verify(fused.attention(**{linen: nnx}))
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["a/b", "a/b[0]", "a/b[:, 0:4]", "a[1, :, 2:3]"])
def test_views_read_as_they_print(text):
    assert str(View.parse(text)) == text


@pytest.mark.parametrize("name", ["w[0]", "conv(1)", "a.transpose(1, 0)", "~2", "[:]"])
def test_a_bracket_in_a_name_is_part_of_it(name):
    for view in (View(escape(name)), View(escape(name), part=((0, 1, 2),))):
        assert View.parse(str(view)) == view


class FusedByAxis(nnx.Module):
    """Query, key and value are an axis of the result, which is moved to the front."""

    def __init__(self, rngs):
        self.qkv = nnx.Linear(fused.F, 3 * fused.F, rngs=rngs)
        self.out = nnx.Linear(fused.F, fused.F, rngs=rngs)

    def __call__(self, x):
        query, key, value = jnp.moveaxis(self.qkv(x).reshape(*x.shape[:-1], 3, fused.F), -2, 0)
        scores = jnp.einsum("btd,bsd->bts", query, key) / fused.F**0.5
        return self.out(nnx.softmax(scores) @ value)


class Apart(nn.Module):
    @nn.compact
    def __call__(self, x):
        query, key, value = (nn.Dense(fused.F, name=name)(x) for name in ("query", "key", "value"))
        scores = jnp.einsum("btd,bsd->bts", query, key) / fused.F**0.5
        return nn.Dense(fused.F, name="out")(nn.softmax(scores) @ value)


@pytest.mark.thorough
def test_what_is_fused_on_an_axis_of_the_result_needs_a_pin_as_well():
    inputs = (jax.ShapeDtypeStruct((2, 3, fused.F), "float32"),)
    pair = Pair(Apart(), lambda rngs: FusedByAxis(rngs), inputs)
    found = verify(pair, samples=1)
    assert found.verdict == "different"
    assert found.remark.startswith("different structure: Linen's params/key/kernel, ")
    kernel = {"params/query/kernel": f"params/qkv/kernel[:, 0:{fused.F}]"}
    half_said = verify(dataclasses.replace(pair, weight_map=kernel), samples=1)
    assert half_said.verdict == "different"
    pins = kernel | {"params/query/bias": f"params/qkv/bias[0:{fused.F}]"}
    assert verify(dataclasses.replace(pair, weight_map=pins), samples=1).verdict in PASSES
