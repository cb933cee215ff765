"""A run that has ended is resumed to the same bits; what cannot be resumed is refused."""

import contextlib
import io
import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from shared.cli import main
from shared.interface import IMPLEMENTATIONS
from shared.training.config import Config
from shared.training.leaves import leaves_of
from shared.training.run import first_state, steps
from shared.training.text import tokens_of
from shared.training.trainer import load_trainer

TEXT = "the quick brown fox jumps over the lazy dog. " * 30
SIZES = {"steps": 12, "batch_size": 2, "length": 8, "features": 8, "num_layers": 1}
WORDS = [f"--{name}={value}" for name, value in SIZES.items()]

each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def whole(text, tmp_path_factory):
    """A run of an implementation from start to end: (its directory, its lines, its report)."""
    found = {}

    def of(impl):
        if impl not in found:
            directory = tmp_path_factory.mktemp(impl) / "run"
            code, lines, error = train(directory, f"--impl={impl}", f"--text={text}", *WORDS)
            assert (code, error) == (0, "")
            found[impl] = directory, lines, report_of(directory)
        return found[impl]

    return of


@pytest.fixture
def ended(whole, tmp_path):
    """A copy of a run that has ended after a step."""

    def of(impl, step):
        directory = tmp_path / "run"
        shutil.copytree(whole(impl)[0], directory)
        for later in range(step + 1, SIZES["steps"] + 1):
            shutil.rmtree(directory / str(later))
        return directory

    return of


def train(directory, *words):
    """The command in this process: (exit code, lines of JSON, stderr)."""
    out, error = io.StringIO(), io.StringIO()
    keep = (f"--checkpoint_dir={directory}", f"--report={directory}.json", "--format=json")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(["train", *keep, *words])
    return code, [json.loads(line) for line in out.getvalue().splitlines()], error.getvalue()


def refused(directory, *words):
    """What a command that stops before it trains says: (exit code, its line)."""
    code, lines, error = train(directory, *words)
    assert lines == []
    assert error.count("\n") == 1
    return code, error.strip().removeprefix("composed-lifts: error: ")


def report_of(directory):
    """The whole run, without what is measured."""
    document = json.loads(directory.with_suffix(".json").read_text())
    return {name: value for name, value in document.items() if name != "seconds"}


def events(lines):
    """What came after the start, without what is measured."""
    return [
        {name: value for name, value in line.items() if name != "seconds"}
        for line in lines
        if line["event"] != "start"
    ]


def stored(directory, step):
    """{path: (dtype, bytes)} of a checkpoint, read as any user of Orbax does."""
    with ocp.StandardCheckpointer() as checkpointer:
        return of_bytes(checkpointer.restore(directory / str(step) / "state"))


def of_bytes(state):
    found = {}
    for path, leaf in leaves_of(state).items():
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        values = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        found[path] = str(leaf.dtype), values.shape, values.tobytes()
    return found


@each_implementation
def test_a_checkpoint_holds_the_state_of_its_step(whole, impl):
    """Its arrays are donated to the next step while they are written."""
    trainer, config, tokens = load_trainer(impl), Config(**SIZES), tokens_of(TEXT, SIZES["length"])
    expected = {}
    first = first_state(trainer, config, tokens)
    for number, state, _ in steps(trainer, first, config, tokens, done=0):
        expected[number] = of_bytes(trainer.to_checkpoint(state))
    directory = whole(impl)[0]
    kept = sorted(path.name for path in directory.iterdir())
    assert kept == ["10", "11", "12", "lock"]
    for step in (10, 11, 12):
        assert stored(directory, step) == expected[step]
    assert expected[10] != expected[11]


@each_implementation
def test_it_is_what_users_of_the_api_save(whole, impl):
    paths = stored(whole(impl)[0], 12)
    names = {
        "linen": ["key", "params/embed/embedding", "opt_state/1/0/mu/layers/up/kernel", "step"],
        "nnx": [
            *("key/value", "model/embed/embedding/value", "optimizer/step/value"),
            "optimizer/opt_state/1/0/mu/layers/up/kernel/value",
        ],
    }
    assert paths.keys() >= set(names[impl])
    assert paths[names[impl][0]][0] == "key<fry>"


@each_implementation
def test_a_resumed_run_is_the_uninterrupted_one(whole, ended, impl):
    directory, lines, report = whole(impl)
    resumed = ended(impl, 10)
    code, after, error = train(resumed, "--resume")
    assert (code, error) == (0, "")
    assert after[0]["done"] == 10
    assert events(after) == [line for line in events(lines) if line["step"] > 10]
    assert stored(resumed, 12) == stored(directory, 12)
    assert report_of(resumed) == report
