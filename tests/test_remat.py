"""What the backward pass keeps is the same in both, and what the policy says."""

import contextlib
import io
import re

import jax
import pytest
from flax import linen as nn
from flax import nnx as flax_nnx
from helpers import linen_to_nnx, random_inputs, random_variables, run, small
from jax.ad_checkpoint import print_saved_residuals

from linen_impl.block import Block as LinenBlock
from nnx_impl.block import Block as NnxBlock
from shared import Pair, verify
from shared.cases import CASES
from shared.interface import activation_of
from shared.report.result import PASSES


def residuals(implementation, case, variables):
    """Type and shape of what the gradient of a call keeps, apart from its arguments."""
    inputs = random_inputs(case)

    def loss(params):
        outputs, _ = run(implementation, case, {**variables, "params": params}, inputs)
        return activation_of(outputs).sum()

    with contextlib.redirect_stdout(io.StringIO()) as text:
        print_saved_residuals(loss, variables["params"])
    lines = [line for line in text.getvalue().splitlines() if "from the argument" not in line]
    return sorted(re.match(r"\w+\[[\d,]*\]", line)[0] for line in lines)


# N = 3 layers, B = 4 examples, F = 5 features, I = 2 layers of a group: f32[N,B,F] is a carry.
KEPT = {
    "remat": ["f32[3,4,5]"],
    "remat_dots": ["f32[3,4,5]", "f32[3,4,5]"],
    "remat_scan": ["f32[3,4,5]"],
    "shared": ["bool[3,4,5]", "f32[3,4,5]", "f32[4,5]"],
}


@pytest.mark.parametrize("name", KEPT)
def test_residuals_are_equal_and_those_of_the_policy(linen, nnx, name):
    case = small(CASES[name])
    variables = random_variables(case)
    kept = residuals(linen, case, variables)
    assert kept == residuals(nnx, case, linen_to_nnx(case, variables))
    assert kept == KEPT[name]


def test_a_bound_method_is_no_layer_for_remat():
    layer = flax_nnx.Linear(3, 3, rngs=flax_nnx.Rngs(0))
    with pytest.raises(ValueError, match="does not support bound methods"):
        flax_nnx.remat(layer.__call__)


def test_a_barrier_to_cse_is_all_that_the_default_adds():
    layer = flax_nnx.Linear(3, 3, rngs=flax_nnx.Rngs(0))

    def text(**options):
        graphdef, params = flax_nnx.split(layer)
        remat = flax_nnx.remat(flax_nnx.Linear.__call__, graph=False, **options)
        x = jax.numpy.ones(3)
        loss = jax.grad(lambda params: remat(flax_nnx.merge(graphdef, params), x).sum())
        return jax.jit(loss).lower(params).as_text()

    assert text().count("optimization_barrier") == 1
    assert text(prevent_cse=False).count("optimization_barrier") == 0


class KeepsLittle(nn.Module):
    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            nn.remat(LinenBlock, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        return scan(5)(x, None)[0]


class Stack(flax_nnx.Module):
    policy, is_kept = None, False

    def __init__(self, rngs):
        self.layers = flax_nnx.vmap(lambda rngs: NnxBlock(5, rngs=rngs), graph=False)(rngs.split(3))

    def __call__(self, x):
        layer = NnxBlock.__call__
        if not self.is_kept:
            layer = flax_nnx.remat(layer, prevent_cse=False, policy=self.policy, graph=False)
        axes = (0, flax_nnx.Carry)
        return flax_nnx.scan(layer, in_axes=axes, out_axes=flax_nnx.Carry, graph=False)(
            self.layers, x
        )


class Lost(Stack):
    is_kept = True


class ByAnotherPolicy(Stack):
    policy = staticmethod(jax.checkpoint_policies.dots_saveable)


@pytest.mark.parametrize(
    ("port", "remark"),
    [
        (Stack, ""),
        (Lost, "remat: 3 parts in Linen, nothing in NNX; "),
        (ByAnotherPolicy, "remat: 3 parts in Linen, 3 parts by DotsSaveable in NNX; "),
    ],
    ids=["the same", "lost", "another policy"],
)
def test_a_remat_that_the_port_has_not_is_a_remark(port, remark):
    x = (jax.ShapeDtypeStruct((4, 5), "float32"),)
    found = verify(Pair(KeepsLittle(), port, x), checks=("programs", "forward"))
    assert found.verdict in PASSES
    assert found.remark.startswith(remark)
    assert bool(found.remark) == bool(remark)
