"""What the commands print, in text and in JSON, and what they write."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_identical

import linen_impl
import nnx_impl
import shared
from shared.cases import CASES
from shared.cli import main
from shared.cli.command import COMMANDS

IRIS = str(Path(shared.__file__).parent / "data" / "iris.csv")


@pytest.fixture
def run(capsys):
    """Runs the command line in this process: words -> (stdout, stderr), exit code 0."""

    def run(*words):
        code = main(words)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out, captured.err

    return run


def forward(run, *words):
    return json.loads(run(*words, "--format=json")[0])


def test_json_of_forward(run):
    document = forward(run, "--impl=nnx", "--num_layers=3", "--features=5", "--batch_size=2")
    assert document.pop("versions").keys() == {
        *("composed_lifts", "jax", "jaxlib", "flax", "numpy", "python", "platform")
    }
    activation = document.pop("activation")
    assert len(activation) == 10
    assert document == {
        "schema_version": 1,
        "command": "forward",
        "impl": "nnx",
        "case": "shared",
        "seed": 0,
        "num_layers": 3,
        "features": 5,
        "batch_size": 2,
        "init": "linen",
        "shape": [2, 5],
        "params": [
            {"path": "params/layers/dense/bias", "shape": [3, 5], "dtype": "float32"},
            {"path": "params/layers/dense/kernel", "shape": [3, 5, 5], "dtype": "float32"},
        ],
    }


@pytest.mark.quick("shared", "confused")
@pytest.mark.parametrize("case", CASES)
def test_both_implementations_print_the_same_activation(run, case):
    linen, nnx = (forward(run, f"--impl={impl}", f"--case={case}") for impl in ("linen", "nnx"))
    assert linen["activation"] == nnx["activation"]
    assert any(linen["activation"])


@pytest.mark.quick("5-1")
@pytest.mark.parametrize("seed", [0, 1, 2147483648])
@pytest.mark.parametrize("num_layers", [1, 5, 24])
def test_they_do_at_other_seeds_and_depths(run, seed, num_layers):
    words = (f"--seed={seed}", f"--num_layers={num_layers}", "--features=16")
    linen, nnx = (forward(run, f"--impl={impl}", *words) for impl in ("linen", "nnx"))
    assert linen["activation"] == nnx["activation"]


@pytest.mark.parametrize(("impl", "package"), [("linen", linen_impl), ("nnx", nnx_impl)])
def test_the_command_is_the_function_of_the_exercise(run, impl, package):
    printed = forward(run, f"--impl={impl}", f"--input={IRIS}", "--seed=37")["activation"]
    x = np.loadtxt(IRIS, delimiter=",", skiprows=1, dtype=np.float32)
    assert x.shape == (150, 4)
    expected = package.composed_lifts_forward(37, x, 4, 4)
    assert_identical(np.asarray(expected), np.array(printed, np.float32))


def test_native_init_gives_other_numbers_in_nnx_only(run):
    for impl, equal in (("linen", True), ("nnx", False)):
        a, b = (forward(run, f"--impl={impl}", f"--init={init}") for init in ("linen", "native"))
        assert (a["activation"] == b["activation"]) is equal
        assert (a["init"], b["init"]) == ("linen", "native")


def test_text_of_forward_shows_what_went_in_what_it_went_through_what_came_out(run):
    out, err = run("--impl=linen", f"--input={IRIS}", "--seed=37")
    for words in (
        "x (150, 4) float32",
        "sepal_length",
        "vmap(scan): 150 examples, 4 layers",
        "params/Dense_0/kernel",
        "layers x in x out",
        "activation (150, 4) float32",
        "█",
    ):
        assert words in out
    assert err == ""


def test_an_activation_of_zeros_is_explained(run):
    assert "every value is 0" in run("--impl=linen", f"--input={IRIS}", "--seed=0")[0]


def test_a_case_that_cannot_be_initialised_is_explained(run):
    out, err = run("--impl=nnx", "--case=confused")
    assert "init fails with ValueError" in err
    assert "the params of 'shared'" in err
    assert "activation (8, 8)" in out


@pytest.mark.one_in(3)
@pytest.mark.parametrize("case", CASES)
def test_json_of_layout(run, case):
    words = (f"--case={case}", "--num_layers=3", "--features=5", "--batch_size=2")
    document = json.loads(run("layout", *words, "--format=json")[0])
    sized = dataclasses.replace(CASES[case], num_layers=3, features=5, batch_size=2)
    for impl in ("linen", "nnx"):
        for row in document[impl]:
            assert row.keys() == {"path", "shape", "dtype", "axes"}
            assert row["shape"] == [sized.axis_sizes[axis] for axis in row["axes"]]
            assert row["dtype"] == ("int32" if "index" in row["path"] else "float32")
    assert [row["axes"] for row in document["linen"]] == [row["axes"] for row in document["nnx"]]
    for impl in ("linen", "nnx"):
        names = {sized.leaf(row["path"]).name for row in document[impl]}
        assert names == {leaf.name for leaf in sized.leaves}
    if sized.pattern in ("composed", "ensemble"):
        paths = [[row["path"] for row in document[impl]] for impl in ("linen", "nnx")]
        assert paths == [
            ["params/Dense_0/bias", "params/Dense_0/kernel"],
            ["params/layers/dense/bias", "params/layers/dense/kernel"],
        ]
    failing = {"linen", "nnx"} if case == "confused" else set()
    assert document["init_errors"].keys() == failing


def test_text_of_layout_shows_the_trees_side_by_side(run):
    out, _ = run("layout", "--case=reversed_ensemble")
    line = next(line for line in out.splitlines() if "kernel" in line)
    assert line.split() == [
        *("params/Dense_0/kernel", "params/layers/dense/kernel"),
        *["layers", "x", "members", "x", "in", "x", "out"],
    ]
    assert CASES["reversed_ensemble"].lesson.split()[0] in out


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_output_is_written_and_can_be_read_as_input(run, tmp_path, suffix):
    path = tmp_path / f"activation{suffix}"
    document = forward(run, "--impl=nnx", f"--input={IRIS}", f"--output={path}", "--seed=37")
    expected = np.array(document["activation"], np.float32).reshape(150, 4)
    if suffix == ".npy":
        assert_identical(expected, np.load(path))
    else:
        assert_identical(expected, np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32))
    assert os.listdir(tmp_path) == [path.name]
    again = forward(run, "--impl=linen", f"--input={path}")
    assert again["shape"] == [150, 4]


def test_output_goes_through_a_link(run, tmp_path):
    target, link = tmp_path / "real.npy", tmp_path / "link.npy"
    link.symlink_to(target)
    run("--impl=linen", f"--output={link}")
    assert link.is_symlink()
    assert np.load(target).shape == (8, 8)


@pytest.mark.thorough
def test_empty_batch(run):
    for case in CASES:
        documents = [
            forward(run, f"--impl={impl}", f"--case={case}", "--batch_size=0")
            for impl in ("linen", "nnx")
        ]
        assert [document["activation"] for document in documents] == [[], []]
    assert "(no example)" in run("--impl=nnx", "--batch_size=0")[0]


def test_non_finite_values_are_text_in_json(run, tmp_path):
    path = tmp_path / "x.npy"
    x = np.ones((3, 4), np.float32)
    x[1, 2] = np.nan
    np.save(path, x)
    out, err = run("--impl=nnx", f"--input={path}", "--format=json")
    assert json.loads(out)["activation"][4:8] == ["nan"] * 4
    assert "1 of 12 values are NaN or infinite, the first at [1, 2]" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_command_and_the_flags_of_this_one(run, command):
    out, err = run(command, "--help")
    assert all(f"  {name}" in out for name in COMMANDS)
    assert ("--impl:" in out) == (command in ("forward", "train"))
    assert ("--case:" in out) == (command not in ("train", "convert", "compare"))
    assert not any(f"Default: {empty}." in out for empty in ("", "[]", "None"))
    assert "Default: [" not in out
    assert err == ""


def test_version(run):
    assert run("--version")[0].startswith("composed-lifts 0.")


SCRIPT = [str(Path(sys.executable).parent / "composed-lifts")]
MODULE = [sys.executable, "-m", "shared"]


@pytest.mark.quick("script")
@pytest.mark.parametrize("command", [SCRIPT, MODULE], ids=["script", "module"])
def test_as_a_process(command):
    done = subprocess.run([*command, "--impl=nnx", "--format=json"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["impl"] == "nnx"
    done = subprocess.run([*command, "--impl=torch"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_reader_that_stops_reading_is_no_error():
    command = f"{SCRIPT[0]} --impl=linen --features=64 --batch_size=4096 --format=json | head -c 9"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.thorough
def test_output_that_knows_no_blocks():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*SCRIPT, "--impl=linen"], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"####" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["layout", "--case=layer_list", "--features=8192", "--num_layers=1000"],
        ["--impl=nnx", "--case=auxiliary", "--batch_size=1000000", "--num_layers=1000"],
    ],
)
def test_lists_of_layers_and_further_inputs_count(words, capsys):
    assert main(words) == 2
    assert "the limit is 4 GiB" in capsys.readouterr().err
