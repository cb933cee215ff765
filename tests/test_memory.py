"""Params are made layer by layer: beside the stack itself, room for little more than one layer."""

import dataclasses

import jax
import pytest
from flax import nnx as flax_nnx

from nnx_impl.block import Block
from shared.cases import CASES

NUM_LAYERS, FEATURES = 24, 64
LAYER_BYTES = 4 * FEATURES * (FEATURES + 1)
# Drawing a layer takes its random bits, their uniform numbers and the normal ones.
WORKING_LAYERS = 6


def temporary_bytes(init):
    return jax.jit(init).lower().compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", ["linen", "nnx"])
@pytest.mark.parametrize("case", ["shared", "reversed"])
def test_init(name, case, request):
    implementation = request.getfixturevalue(name)
    case = dataclasses.replace(CASES[case], num_layers=NUM_LAYERS, features=FEATURES)
    assert temporary_bytes(lambda: implementation.init(case, 0)) < WORKING_LAYERS * LAYER_BYTES


def test_planted_fault_is_caught():
    """A stack that is made by vmap draws all layers at once."""

    def init():
        create = flax_nnx.vmap(lambda rngs: Block(FEATURES, rngs=rngs))
        return flax_nnx.state(create(flax_nnx.Rngs(0).split(NUM_LAYERS)))

    assert temporary_bytes(init) > 2 * NUM_LAYERS * LAYER_BYTES > WORKING_LAYERS * LAYER_BYTES
