"""Weights that neither programs nor names tell apart are placed by what their values do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from helpers import assert_identical

from shared import Pair, find_weight_map, verify
from shared.trees import unflatten
from shared.verification import programs, runs
from shared.verification.placement import place_by_values

F = 5
INPUTS = (jax.ShapeDtypeStruct((3, F), "float32"),)


class Branches(nn.Module):
    """Three branches of one form, each with a weight of its own in the sum."""

    @nn.compact
    def __call__(self, x):
        first = jnp.sin(nn.Dense(F)(x))
        second = jnp.sin(nn.Dense(F)(x))
        third = jnp.sin(nn.Dense(F)(x))
        return first + 2.0 * second + 3.0 * third


class Stacked(nnx.Module):
    """The same, the branches built and stacked in another order, under names that say nothing."""

    def __init__(self, rngs, names=("u", "v", "w"), weights=(2.0, 3.0, 1.0)):
        self.names, self.weights = names, weights
        for name in names:
            setattr(self, name, nnx.Linear(F, F, rngs=rngs))

    def __call__(self, x):
        branches = jnp.stack([jnp.sin(getattr(self, name)(x)) for name in self.names])
        return jnp.einsum("b,b...->...", jnp.array(self.weights), branches)


def pair(**options):
    return Pair(Branches(), lambda rngs: Stacked(rngs, **options), INPUTS)


EXPECTED = {"Dense_0": "w", "Dense_1": "u", "Dense_2": "v"}


def test_another_map_is_looked_for_before_a_port_is_different():
    found = verify(pair())
    assert found.verdict == "close"
    assert {(row["linen"].split("/")[1], row["nnx"].split("/")[1]) for row in found.rows} == set(
        EXPECTED.items()
    )
    assert {row["by"] for row in found.rows} == {"values"}


def test_a_map_by_values_moves_weights():
    weights = find_weight_map(pair())
    variables = unflatten(
        {
            p: np.arange(np.prod(s.shape), dtype="f4").reshape(s.shape)
            for p, s in weights.linen.items()
        }
    )
    moved = weights.to_nnx(variables)
    for linen, nnx_name in EXPECTED.items():
        assert_identical(variables["params"][linen], moved["params"][nnx_name])


@pytest.mark.parametrize(("is_long", "num_compiled"), [(False, 0), (True, 2)])
def test_outputs_of_a_long_program_are_compiled(is_long, num_compiled, monkeypatch):
    compiled = []
    run_forward = runs.run_forward
    monkeypatch.setattr(runs, "run_forward", lambda *of: compiled.append(of) or run_forward(*of))
    if is_long:
        monkeypatch.setattr(programs, "_FEW", 0)
    wrong = verify(pair(weights=(2.0, 3.0, 1.5)), samples=1, checks=("programs",)).ported
    assert place_by_values(wrong) is None
    assert len(compiled) == num_compiled


@pytest.mark.parametrize("weights", [(2.0, 3.0, 1.5), (2.0, 2.0, 1.0)])
def test_no_map_helps_a_port_that_is_wrong(weights):
    found = verify(pair(weights=weights))
    assert found.verdict == "different"
    assert found.divergence is not None
    assert "values" not in {row["by"] for row in found.rows}


def test_what_the_user_has_pinned_is_not_placed_anew():
    pins = {f"params/Dense_0/{name}": f"params/u/{name}" for name in ("kernel", "bias")}
    found = verify(Pair(Branches(), lambda rngs: Stacked(rngs), INPUTS, weight_map=pins))
    assert found.verdict == "different"


def test_a_map_by_values_that_crosses_what_both_call_alike_is_different():
    class Named(nn.Module):
        @nn.compact
        def __call__(self, x):
            left, right = (jnp.sin(nn.Dense(F, name=name)(x)) for name in ("left", "right"))
            return left + 2.0 * right

    swapped = Pair(
        Named(), lambda rngs: Stacked(rngs, names=("left", "right"), weights=(2.0, 1.0)), INPUTS
    )
    found = verify(swapped)
    assert found.verdict == "different"
    assert found.remark == "equal if left and right were exchanged"
