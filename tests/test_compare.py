"""`compare` says of two checkpoints, in any layout and format, whether they hold the same."""

import json
import os

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from stored_trees import (
    OPTIMIZERS,
    LinenLayers,
    LinenStack,
    NnxStack,
    linen_state,
    nnx_state,
)

from shared.checkpoint.convert import Options, convert
from shared.checkpoint.formats.table import WRITERS
from shared.checkpoint.tree.layers import Layout
from shared.cli import main

ADAMW = OPTIMIZERS["clipped adamw"]
KERNEL = ("params", "layers_1", "kernel")


def save(path, state):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(os.fspath(path), state)
    return path


@pytest.fixture(scope="module")
def linen(tmp_path_factory):
    """A TrainState of Linen whose layers are in a list, and where it is saved."""
    state = linen_state(LinenLayers(), ADAMW)
    return state, save(tmp_path_factory.mktemp("linen") / "linen", state)


def compared(one, two, *words):
    """(exit code, document, what is printed for people)."""
    report = os.path.join(os.path.dirname(two), "compared.json")
    code = main(
        ["compare", f"--ckpt_path_1={one}", f"--ckpt_path_2={two}", f"--report={report}", *words]
    )
    with open(report) as file:
        document = json.load(file)
    assert document["is_equal"] == (code == 0)
    return code, document


def apart(document):
    """{leaf of the common form: how it differs} of those that do."""
    return {row["path"]: row["status"] for row in document["leaves"] if row["status"] != "equal"}


def test_a_checkpoint_is_equal_to_itself(linen, tmp_path):
    _, path = linen
    code, document = compared(path, save(tmp_path / "again", linen[0]))
    assert code == 0
    assert len(document["leaves"]) == len(jax.tree.leaves(linen[0]))


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_across_apis_and_formats(form, linen, tmp_path):
    convert(linen[1], tmp_path / "nnx", Options(format=form))
    assert compared(linen[1], tmp_path / "nnx")[0] == 0
    assert compared(tmp_path / "nnx", linen[1])[0] == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_layers_in_a_list_and_stacked(axis, linen, tmp_path, capsys):
    convert(linen[1], tmp_path / "stacked", Options(layout=Layout("stacked", axis)))
    # It is known what it was made of.
    assert compared(linen[1], tmp_path / "stacked")[0] == 0
    assert "layers stacked" not in capsys.readouterr().out
    (tmp_path / "stacked" / "MANIFEST.json").unlink()
    assert compared(linen[1], tmp_path / "stacked")[0] == 0
    assert "layers stacked to be compared" in capsys.readouterr().out
    assert compared(tmp_path / "stacked", linen[1])[0] == 0


def test_two_of_nnx_in_two_layouts(linen, tmp_path):
    convert(linen[1], tmp_path / "stacked", Options(layout=Layout("stacked")))
    convert(linen[1], tmp_path / "listed")
    assert compared(tmp_path / "listed", tmp_path / "stacked")[0] == 0


def changed(state, change):
    """A state in which one kernel is another."""
    params = jax.tree.map(np.array, state.params)
    change(params["layers_1"]["kernel"])
    return state.replace(params=params)


def test_one_number_is_found_and_shown(linen, tmp_path, capsys):
    def change(kernel):
        kernel[2, 3] += 0.5

    code, document = compared(linen[1], save(tmp_path / "two", changed(linen[0], change)))
    assert code == 1
    assert apart(document) == {"params/layers_1/kernel": "different"}
    printed = capsys.readouterr().out
    assert "params/layers_1/kernel" in printed
    assert "1 of 25 numbers, at [2, 3]" in printed
    assert "max abs 0.5" in printed


def test_zero_and_minus_zero_are_not_the_same_bits(linen, tmp_path):
    one = save(tmp_path / "one", changed(linen[0], lambda kernel: kernel.fill(0.0)))
    two = save(tmp_path / "two", changed(linen[0], lambda kernel: kernel.fill(-0.0)))
    code, document = compared(one, two)
    assert (code, document["leaves"][0]["max_abs"]) != (0, 0.5)
    assert apart(document) == {"params/layers_1/kernel": "different"}
    assert compared(one, two, "--atol=0")[0] == 0


def test_not_a_number_is_itself(linen, tmp_path):
    one = save(tmp_path / "one", changed(linen[0], lambda kernel: kernel.fill(np.nan)))
    two = save(tmp_path / "two", changed(linen[0], lambda kernel: kernel.fill(np.nan)))
    assert compared(one, two)[0] == 0
    code, document = compared(linen[1], two)
    (row,) = [row for row in document["leaves"] if row["status"] != "equal"]
    assert (code, row["max_abs"]) == (1, "inf")


@pytest.mark.parametrize(
    ("flag", "status"), [("--atol=0.2", "close"), ("--atol=0.05", "different")]
)
def test_a_tolerance_is_what_was_asked_for(flag, status, linen, tmp_path, capsys):
    def change(kernel):
        kernel[0, 0] += 0.1

    code, document = compared(linen[1], save(tmp_path / "two", changed(linen[0], change)), flag)
    assert apart(document) == {"params/layers_1/kernel": status}
    assert code == (status == "different")
    assert (
        f"{'close (atol 0.2, rtol 0)' if code == 0 else 'different'}  " in capsys.readouterr().out
    )


def test_zeroed_moments_do_not_match(linen, tmp_path):
    state = linen[0]
    adam = state.opt_state[1][0]
    zeroed = adam._replace(mu=jax.tree.map(np.zeros_like, adam.mu))
    opt_state = (state.opt_state[0], (zeroed, *state.opt_state[1][1:]))
    code, document = compared(linen[1], save(tmp_path / "two", state.replace(opt_state=opt_state)))
    assert code == 1
    moments = {path for path in (row["path"] for row in document["leaves"]) if "/mu/" in path}
    assert apart(document) == dict.fromkeys(moments, "different")


def test_what_one_alone_has_is_named(linen, tmp_path, capsys):
    params = {name: value for name, value in linen[0].params.items() if name != "head"}
    two = save(tmp_path / "two", linen[0].replace(params=params))
    code, document = compared(linen[1], two)
    assert code == 1
    # No longer moments of a param, they are still there, and equal.
    assert apart(document) == {"model/head/bias": "only in 1", "model/head/kernel": "only in 1"}
    assert "params/head/kernel" in capsys.readouterr().out


def test_another_shape_and_another_dtype(linen, tmp_path):
    params = jax.tree.map(np.array, linen[0].params)
    params["head"]["bias"] = params["head"]["bias"].astype(np.float16)
    params["layers_1"]["kernel"] = params["layers_1"]["kernel"][:4]
    _, document = compared(linen[1], save(tmp_path / "two", linen[0].replace(params=params)))
    assert apart(document) == {"params/head/bias": "dtype", "params/layers_1/kernel": "shape"}


def test_other_models_are_different(linen, tmp_path):
    port = save(tmp_path / "nnx", nnx_state(NnxStack(nnx.Rngs(0)), ADAMW))
    code, document = compared(linen[1], port)
    assert code == 1
    assert {"only in 1", "only in 2"} <= set(apart(document).values())


def test_the_stack_of_linen_and_the_one_of_nnx(tmp_path):
    one = save(tmp_path / "linen", linen_state(LinenStack(), ADAMW))
    convert(one, tmp_path / "nnx")
    assert compared(one, tmp_path / "nnx")[0] == 0


def test_a_flipped_bit_is_found_by_the_manifest(linen, tmp_path, capsys):
    convert(linen[1], tmp_path / "nnx")
    largest = max(
        (
            path
            for path in (tmp_path / "nnx").rglob("*")
            if path.is_file() and path.parent.name == "d"
        ),
        key=lambda path: path.stat().st_size,
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    words = [f"--ckpt_path_1={linen[1]}", f"--ckpt_path_2={tmp_path / 'nnx'}"]
    assert main(["compare", *words]) == 5
    assert capsys.readouterr().err.splitlines()[-1].startswith("composed-lifts: error: ")


def test_json_is_the_whole_comparison(linen, tmp_path, capsys):
    _, document = compared(linen[1], save(tmp_path / "two", linen[0]), "--format=json")
    assert json.loads(capsys.readouterr().out) == document
