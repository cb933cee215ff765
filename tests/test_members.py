"""Ensembles and experts, vmapped on one side and a list on the other."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from helpers import assert_identical, moved_there_and_back

from shared import Pair, verify
from shared.models.pure_pair import pure_pair
from shared.program.evaluate import evaluate
from shared.program.unstack import unstack
from shared.report.result import PASSES
from shared.verification.ported import Ported
from shared.verification.programs import program
from tests.ports import ensemble, experts, members

EXPERTS, D, F = 4, 6, 8
SAME = {
    "members": members.LISTED_MEMBERS,
    "members and layers": members.LISTED_LAYERS,
    "experts": members.LISTED_EXPERTS,
    "experts of Linen": members.STACKED_EXPERTS,
}


@pytest.mark.quick("members")
@pytest.mark.parametrize("name", SAME)
def test_a_list_in_place_of_a_stack_is_equal_and_moves_without_loss(name):
    pair = SAME[name]
    found = verify(pair, samples=1)
    assert found.verdict in PASSES
    pure, linen, moved, back = moved_there_and_back(pair)
    assert_identical(linen, back)
    inputs = pure.sample_inputs(0, {})
    one, other = pure.linen.apply(linen, inputs)[0], pure.nnx.apply(moved, inputs)[0]
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_what_becomes_of_each_member_is_told():
    rows = {
        row["nnx"]: row["transform"]
        for row in verify(members.LISTED_EXPERTS, ["forward"], samples=1).rows
    }
    assert rows["params/sparse/pool/2/up/kernel"] == "unstack axis 0 at 2"
    rows = {row["linen"]: row["transform"] for row in verify(members.STACKED_EXPERTS).rows}
    assert rows["params/LoopedMixture_0/expert_3/Dense_1/bias"] == "stack on axis 0 at 3"


def test_members_in_another_order_are_a_mistake():
    found = verify(members.BACKWARDS, samples=1)
    assert found.verdict == "different"
    assert found.remark == "equal if the layer axis were reversed"
    assert "self.ones[::order]" in found.divergence.nnx.source


class SummedBackwards(members.ListedExperts):
    """Each expert with its own column of the gate, the last one first."""

    order = -1


class PortSummedBackwards(members.ListedPort):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.sparse = SummedBackwards(rngs)


@pytest.mark.thorough
def test_experts_in_another_order_are_told_by_their_gates():
    pair = dataclasses.replace(members.LISTED_EXPERTS, nnx=lambda rngs: PortSummedBackwards(rngs))
    found = verify(pair, samples=1)
    assert found.verdict in PASSES
    rows = {row["nnx"]: row["transform"] for row in found.rows}
    assert rows["params/sparse/pool/3/up/kernel"] == "unstack axis 0 at 3"


class Exact(experts.FeedForward):
    def __call__(self, x):
        h = self.up(x)
        h = nnx.gelu(h)
        return self.down(h)


class OneWrong(members.ListedPort):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.sparse.pool[2] = Exact(rngs)


def test_a_mistake_in_one_expert_of_a_list_is_found():
    pair = dataclasses.replace(members.LISTED_EXPERTS, nnx=lambda rngs: OneWrong(rngs))
    found = verify(pair)
    assert found.verdict == "different"
    assert found.divergence.nnx.source == "h = nnx.gelu(h)"
    assert found.divergence.linen.source == "y = nn.silu(y)"


@pytest.mark.parametrize(
    ("pair", "part", "axis"),
    [(ensemble.PAIR, "members", 0), (experts.PAIR, "experts", 0), (experts.PAIR, "Dense_0", -1)],
    ids=["members", "experts", "features"],
)
def test_a_program_that_is_taken_apart_computes_the_same(pair, part, axis):
    pure = pure_pair(pair)
    linen, nnx_program = (
        program(model.apply, model, pure.inputs) for model in (pure.linen, pure.nnx)
    )
    sample = Ported(pure, linen, nnx_program, ()).sample(0)
    axes = {
        path: axis % len(spec.shape)
        for path, spec in pure.linen.leaves.items()
        if part in path and (axis == 0 or path.endswith("kernel"))
    }
    apart = unstack(linen.graph, axes)
    assert len(apart.views) > len(linen.graph.views)
    flat = jax.tree.leaves(sample.inputs)
    one, other = (evaluate(graph, sample.linen, flat) for graph in (linen.graph, apart))
    for (a, i), (b, j) in zip(linen.graph.outputs, apart.outputs, strict=True):
        np.testing.assert_allclose(one[a][i], other[b][j], rtol=1e-12, atol=1e-12)


class OneStacked(nn.Module):
    @nn.compact
    def __call__(self, x):
        stacked = nn.vmap(
            nn.Dense,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=1,
        )
        return stacked(4, name="members")(x).sum(0)


class PortOne(nnx.Module):
    def __init__(self, rngs):
        self.members = nnx.List([nnx.Linear(8, 4, rngs=rngs)])

    def __call__(self, x):
        return sum(member(x) for member in self.members)


@pytest.mark.thorough
def test_a_stack_of_one_member_is_a_list_of_one():
    inputs = (jax.ShapeDtypeStruct((5, 8), "float32"),)
    assert verify(Pair(OneStacked(), lambda rngs: PortOne(rngs), inputs)).verdict in PASSES


class Experts(nn.Module):
    """Each row by all experts, each as the router weighs it, which `combine` sums up."""

    combine: Callable

    @nn.compact
    def __call__(self, x):
        weights = nn.softmax(nn.Dense(EXPERTS, use_bias=False, name="router")(x))
        up = self.param("up", nn.initializers.normal(), (EXPERTS, D, F))
        down = self.param("down", nn.initializers.normal(), (EXPERTS, F, D))
        hidden = nn.gelu(jnp.einsum("td,edf->tef", x, up))
        return x + self.combine(hidden, down, weights)


WAYS = {
    "each, then their sum": lambda h, w, p: jnp.einsum(
        "ted,te->td", jnp.einsum("tef,efd->ted", h, w), p
    ),
    "at once": lambda h, w, p: jnp.einsum("tef,efd,te->td", h, w, p),
    "weighed before": lambda h, w, p: jnp.einsum("tef,efd->td", h * p[..., None], w),
    "stack first": lambda h, w, p: jnp.einsum("efd,tef->td", w, h * p[..., None]),
}


class ListedExperts(nnx.Module):
    def __init__(self, rngs, order):
        draw = nnx.initializers.normal()
        self.router = nnx.Linear(D, EXPERTS, use_bias=False, rngs=rngs)
        self.up = nnx.List(nnx.Param(draw(rngs.params(), (D, F))) for _ in order)
        self.down = nnx.List(nnx.Param(draw(rngs.params(), (F, D))) for _ in order)
        self.order = order

    def __call__(self, x):
        weights, y = nnx.softmax(self.router(x)), x
        for i, other in enumerate(self.order):
            hidden = nnx.gelu(x @ self.up[i])
            y = y + weights[:, i : i + 1] * (hidden @ self.down[other])
        return y


class Layers(nn.Module):
    combine: Callable

    @nn.compact
    def __call__(self, x):
        return Experts(self.combine, name="second")(Experts(self.combine, name="first")(x))


class ListedLayers(nnx.Module):
    def __init__(self, rngs, order):
        self.first, self.second = (ListedExperts(rngs, order) for _ in range(2))

    def __call__(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)], ids=["right", "backwards"])
@pytest.mark.parametrize("way", WAYS)
def test_experts_that_are_summed_are_those_of_a_list(way, order):
    """In two layers: that a part of each expert is taken of another one is no way to pair them."""
    x = (jax.ShapeDtypeStruct((3, D), "float32"),)
    pair = Pair(Layers(WAYS[way]), lambda rngs: ListedLayers(rngs, order), x)
    found = verify(pair, ["forward"], samples=1)
    if order == (0, 1, 2, 3):
        assert found.verdict in PASSES
    else:
        assert found.verdict == "different"
        assert found.remark == "equal if the layer axis were reversed"
