"""Pins that fit are taken as numpy takes them; of one that does not, the one that would is said."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, find_weight_map, verify
from shared.errors import InputError
from shared.report.result import PASSES

D, H = 6, 4


class Gated(nn.Module):
    """Both products in one, of weights in a stack."""

    @nn.compact
    def __call__(self, x):
        w = self.param("gating", nn.initializers.normal(), (2, H, D))
        gate, up = jnp.einsum("bd,chd->cbh", x, w)
        return nn.Dense(D, name="down")(nn.gelu(gate) * up)


class Apart(nnx.Module):
    """The weights of both on their own, transposed, and one that keeps Linen's layout."""

    def __init__(self, rngs):
        self.gate = nnx.Linear(D, H, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(D, H, use_bias=False, rngs=rngs)
        self.down = nnx.Param(nnx.initializers.normal()(rngs.params(), (D, H)))
        self.bias = nnx.Param(jnp.zeros(D))

    def __call__(self, x):
        x = nnx.gelu(self.gate(x)) * self.up(x)
        return x @ self.down[...].T + self.bias[...]


class Swapped(Apart):
    """Takes what is up for the gate."""

    def __call__(self, x):
        x = nnx.gelu(self.up(x)) * self.gate(x)
        return x @ self.down[...].T + self.bias[...]


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        def block(module, x):
            return nn.gelu(nn.Dense(D, name="b")(nn.Dense(H, name="a")(x))), None

        lift = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        return lift(self, x)[0]


class Block(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Param(nnx.initializers.normal()(rngs.params(), (H, D)))
        self.bias = nnx.Param(jnp.zeros(H))
        self.b = nnx.Linear(H, D, rngs=rngs)

    def __call__(self, x):
        return nnx.gelu(self.b(x @ self.a[...].T + self.bias[...]))


class ScannedStack(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.vmap(lambda rngs: Block(rngs), in_axes=0)(rngs.split(2))

    def __call__(self, x):
        scan = nnx.scan(lambda b, x: b(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        return scan(self.blocks, x)


def gated(port=Apart, **weight_map):
    inputs = (jax.ShapeDtypeStruct((3, D), "float32"),)
    return Pair(Gated(), lambda rngs: port(rngs), inputs, weight_map=weight_map)


def stack(**weight_map):
    inputs = (jax.ShapeDtypeStruct((3, D), "float32"),)
    return Pair(Stack(), lambda rngs: ScannedStack(rngs), inputs, weight_map=weight_map)


class Turned(nnx.Module):
    """A kernel as PyTorch has it."""

    def __init__(self, rngs):
        self.weight = nnx.Param(nnx.initializers.normal()(rngs.params(), (H, D)))
        self.bias = nnx.Param(jnp.zeros(H))

    def __call__(self, x):
        return x @ self.weight[...].T + self.bias[...]


def dense(**weight_map):
    inputs = (jax.ShapeDtypeStruct((3, D), "float32"),)
    return Pair(nn.Dense(H), lambda rngs: Turned(rngs), inputs, weight_map=weight_map)


GATE = "params/gate/kernel"


@pytest.mark.parametrize("pin", ["[0].transpose(1, 0)", "[0:1].reshape(4, 6).transpose(1, 0)"])
def test_one_place_of_a_stack_is_pinned_as_numpy_writes_it(pin):
    pair = gated(**{f"params/gating{pin}": GATE})
    assert verify(pair, checks=("forward",), samples=1).verdict in PASSES
    rows = {row["nnx"]: row["by"] for row in find_weight_map(pair).rows()}
    assert rows[GATE] == "user"
    assert "params/up/kernel" in rows


def test_the_pin_of_one_place_is_no_word_for_another():
    pair = gated(Swapped, **{"params/gating[0].transpose(1, 0)": GATE})
    assert verify(pair, checks=("forward",), samples=1).verdict == "different"


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (
            gated(**{"params/gating[0]": GATE}),
            "weight_map: params/gating[0] has shape (4, 6), which does not fit (6, 4), that of "
            'params/gate/kernel; write "params/gating[0].transpose(1, 0)": "params/gate/kernel"',
        ),
        (
            gated(**{"params/gating[0:1]": GATE}),
            "weight_map: params/gating[0:1] has shape (1, 4, 6), which does not fit (6, 4), that "
            'of params/gate/kernel; write "params/gating[0:1].reshape(4, 6).transpose(1, 0)": '
            '"params/gate/kernel"',
        ),
        (
            gated(**{"params/gating[0].reshape(24)": GATE}),
            "weight_map: params/gating[0].reshape(24) has shape (24,), which does not fit (6, 4), "
            'that of params/gate/kernel; write "params/gating[0].reshape(24).reshape(6, 4)": '
            '"params/gate/kernel"',
        ),
        (
            dense(**{"params/kernel": "params/weight"}),
            "weight_map: params/kernel has shape (6, 4), which does not fit (4, 6), that of "
            'params/weight; write "params/kernel.transpose(1, 0)": "params/weight"',
        ),
        (
            gated(**{"params/gating": GATE}),
            "weight_map: params/gating has shape (2, 4, 6), which does not fit (6, 4), that of "
            "params/gate/kernel",
        ),
        (
            gated(**{"params/down/kernel": "params/bias"}),
            "weight_map: params/down/kernel has shape (4, 6), which does not fit (6,), that of "
            "params/bias",
        ),
        (
            stack(**{"params/a/kernel": "params/blocks/a"}),
            "weight_map: params/a/kernel[0] has shape (6, 4), which does not fit (4, 6), that of "
            'params/blocks/a[0]; write "params/a/kernel[0].transpose(1, 0)": "params/blocks/a[0]"',
        ),
    ],
    ids=[
        "a place",
        "a range",
        "a shape",
        "a whole weight",
        "a stack",
        "another weight",
        "what is scanned",
    ],
)
def test_a_pin_that_does_not_fit(pair, said):
    with pytest.raises(InputError) as error:
        verify(pair, checks=("forward",), samples=1)
    assert str(error.value) == said


def test_the_pins_that_are_said_fit():
    for pair in (
        dense(**{"params/kernel.transpose(1, 0)": "params/weight"}),
        stack(**{"params/a/kernel[0].transpose(1, 0)": "params/blocks/a[0]"}),
    ):
        find_weight_map(pair)
