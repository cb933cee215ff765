"""A port that `verify` passes is one whose checkpoints are converted, both ways, bit for bit."""

import dataclasses
import os

import jax
import numpy as np
import pytest
from flax import nnx
from pair_states import ADAMW, States, assert_same, held, restored, save

from shared import convert, options_of_pair
from tests.ports import (
    codebook,
    copies,
    ensemble,
    fused,
    layouts,
    members,
    mixed,
    recurrent,
    sharded,
    starts,
    trained,
)

PORTS = {
    "a codebook that is no param": codebook.PAIR,
    "a second network that is not trained": copies.PAIR,
    "members, each with a stack": ensemble.PAIR,
    "gates in one kernel": fused.LSTM,
    "kernels as (out, in)": layouts.OUT_IN,
    "a stack of experts that is a list": members.LISTED_EXPERTS,
    "running means of an own kind": mixed.PAIR,
    "cells": recurrent.PAIR,
    "names of axes": sharded.PAIR,
    "tables": starts.PAIR,
    "a stack that is a list, with masks": trained.GIVEN,
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", PORTS)
def test_a_port_is_converted_both_ways(name, tmp_path):
    pair = dataclasses.replace(
        PORTS[name],
        optimizer=ADAMW,
        **dict.fromkeys(("linen_step", "nnx_step", "step_inputs", "linen_state")),
    )
    with nnx.use_eager_sharding(False):
        both, given = States(pair, ADAMW), options_of_pair(pair)
        port = nnx.state(both.nnx)
        known = nnx.state(both.nnx, nnx.Not(nnx.RngState))
    save(tmp_path / "linen", both.linen)
    save(tmp_path / "nnx", port)
    # Linen has no random state: there is none in what is made of it.
    save(tmp_path / "known", known)

    convert(tmp_path / "linen", tmp_path / "to nnx", given)
    assert_same(tmp_path / "to nnx", tmp_path / "known")
    restored(tmp_path / "to nnx", jax.eval_shape(lambda: known))
    os.unlink(tmp_path / "to nnx" / "MANIFEST.json")
    convert(tmp_path / "to nnx", tmp_path / "back", given)
    assert_same(tmp_path / "back", tmp_path / "linen", empty=True)

    convert(tmp_path / "nnx", tmp_path / "to linen", given)
    made, expected = (held(tmp_path / each, empty=True) for each in ("to linen", "linen"))
    carried = {path for path in made if path[0] == "nnx_aux"}
    assert made.keys() - carried == expected.keys()
    for path, (leaf, array) in expected.items():
        assert made[path][0] == leaf
        if array is not None:
            np.testing.assert_array_equal(made[path][1], array, strict=True)
    os.unlink(tmp_path / "to linen" / "MANIFEST.json")
    convert(tmp_path / "to linen", tmp_path / "again", given)
    assert_same(tmp_path / "again", tmp_path / "nnx")
