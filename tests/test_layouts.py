"""Weights that are laid out anew in a port: reshaped, transposed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from helpers import assert_identical, moved_there_and_back

from shared import Pair, WeightMap, find_weight_map, verify
from shared.errors import InputError
from shared.program.layout import Step, inverse, laid_out, simplest
from shared.program.view import View
from shared.report.result import PASSES
from tests.ports import layouts

QUERY = "params/blocks/attention/query/kernel"


def transforms(found):
    return {
        row["nnx"].removeprefix("params/blocks/0/"): row["transform"]
        for row in found.rows
        if "/0/" in row["nnx"] or "blocks" not in row["nnx"]
    }


@pytest.mark.thorough
def test_heads_in_the_kernels_and_heads_of_the_results():
    found = verify(layouts.HEADS_IN_RESULTS, samples=1)
    assert found.verdict in PASSES
    ways = transforms(found)
    assert ways["query/kernel"] == ways["out/kernel"] == "unstack axis 0 at 0, reshape 8,8"
    assert ways["value/bias"] == "unstack axis 0 at 0, reshape 8"
    assert ways["mix/kernel"] == "unstack axis 0 at 0"
    assert ways["params/embed/embedding"] == "identity"


@pytest.mark.thorough
def test_kernels_as_pytorch_has_them():
    found = verify(layouts.OUT_IN, samples=1)
    assert found.verdict in PASSES
    ways = transforms(found)
    assert ways["up/weight"] == ways["mix/weight"] == "unstack axis 0 at 0, transpose 1,0"
    assert ways["query/weight"] == "unstack axis 0 at 0, reshape 8,8, transpose 1,0"
    assert ways["up/bias"] == "unstack axis 0 at 0"


@pytest.mark.thorough
def test_one_square_kernel_that_alone_is_transposed_is_a_mistake():
    found = verify(layouts.ONE_TURNED, samples=1)
    assert found.verdict == "different"
    assert found.remark.startswith("equal if params/blocks/0/mix/kernel, ")
    assert found.divergence.linen.source.startswith('x = x + nn.Dense(F, name="mix")')
    assert found.divergence.nnx.source == "return x @ self.kernel[...].T + self.bias[...]"


@pytest.mark.quick("turned")
@pytest.mark.parametrize(
    "pair", [layouts.HEADS_IN_RESULTS, layouts.OUT_IN], ids=["heads", "turned"]
)
def test_weights_move_without_loss_and_the_port_computes_the_same(pair, tmp_path):
    weights = find_weight_map(pair)
    weights.save(str(tmp_path / "map.json"))
    weights = WeightMap.load(str(tmp_path / "map.json"))
    pure, linen, moved, back = moved_there_and_back(pair, weights)
    assert_identical(linen, back)
    inputs = pure.sample_inputs(0, {})
    one, other = pure.linen.apply(linen, inputs)[0], pure.nnx.apply(moved, inputs)[0]
    # Large numbers cancel in small ones: rounding is that of the largest.
    assert jnp.abs(one - other).max() <= 1e-6 * jnp.abs(one).max()


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(8, name="dense")(x)


class Square(nnx.Module):
    def __init__(self, rngs):
        self.dense = layouts.Turned(8, 8, rngs)

    def __call__(self, x):
        return self.dense(x)


SQUARE = Pair(Plain(), lambda rngs: Square(rngs), (jax.ShapeDtypeStruct((4, 8), "float32"),))
TURNED = {"params/dense/kernel.transpose(1, 0)": "params/dense/weight"}


def test_a_pin_says_that_a_square_kernel_is_transposed():
    assert verify(SQUARE, samples=1).verdict == "different"
    found = verify(dataclasses.replace(SQUARE, weight_map=TURNED), samples=1)
    assert found.verdict in PASSES
    assert transforms(found)["params/dense/weight"] == "transpose 1,0"
    other = {"params/dense/kernel": "params/dense/weight.transpose(1, 0)"}
    assert verify(dataclasses.replace(SQUARE, weight_map=other), samples=1).verdict in PASSES


@pytest.mark.parametrize("layout", [".transpose(0, 0)", ".reshape(8, 9)", ".transpose(2, 1, 0)"])
def test_a_pin_with_a_layout_that_the_weight_cannot_have_is_refused(layout):
    pins = {f"params/dense/kernel{layout}": "params/dense/weight"}
    with pytest.raises(InputError, match="is not in a leaf of shape"):
        verify(dataclasses.replace(SQUARE, weight_map=pins))


@pytest.mark.parametrize(
    "text", ["a/b.transpose(1, 0)", "a/b[0, 2:4].reshape(2, 4).transpose(1, 0)", "a.b/c"]
)
def test_a_view_is_what_its_text_says(text):
    assert str(View.parse(text)) == text


def test_few_steps_do_what_many_do():
    rng = np.random.default_rng(0)
    shapes = [(24,), (2, 12), (4, 6), (2, 3, 4), (6, 1, 4), (2, 2, 2, 3)]
    for _ in range(500):
        shape = shapes[rng.integers(len(shapes))]
        x = np.arange(24).reshape(shape)
        steps, y = (), x
        for _ in range(rng.integers(6)):
            step = Step("reshape", shapes[rng.integers(len(shapes))])
            if rng.integers(2):
                step = Step("transpose", tuple(rng.permutation(y.ndim).tolist()))
            steps, y = (*steps, step), laid_out(y, (step,))
        few = simplest(steps, shape)
        np.testing.assert_array_equal(laid_out(x, few), y)
        np.testing.assert_array_equal(laid_out(y, inverse(few, shape)), x)


def test_the_shortest_way_is_taken():
    assert simplest((Step("transpose", (1, 0)),), (8, 6)) == (Step("transpose", (1, 0)),)
    assert simplest((Step("transpose", (1, 0)), Step("transpose", (1, 0))), (8, 6)) == ()
    heads = (Step("reshape", (2, 4, 6)), Step("transpose", (1, 0, 2)), Step("reshape", (8, 6)))
    assert simplest((*heads, *inverse(heads, (8, 6))), (8, 6)) == ()
    there_and_back = (Step("reshape", (2, 4, 6)), Step("reshape", (8, 6)))
    assert simplest(there_and_back, (8, 6)) == ()
