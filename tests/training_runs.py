"""Runs of `train` that are small, in this process or in one of their own, and what they leave."""

import contextlib
import io
import json
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from shared.cli import main
from shared.training.leaves import leaves_of

TEXT = "the quick brown fox jumps over the lazy dog. " * 30
SIZES = {"steps": 12, "batch_size": 2, "length": 8, "features": 8, "num_layers": 1}
WORDS = [f"--{name}={value}" for name, value in SIZES.items()]


def keep(directory):
    """The flags of a run whose states and report are kept."""
    return f"--checkpoint_dir={directory}", f"--report={directory}.json", "--format=json"


def train(directory, *words):
    """The command in this process: (exit code, lines of JSON, stderr)."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(["train", *keep(directory), *words])
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


@contextlib.contextmanager
def started(directory, *words):
    """The command in a process of its own, which ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "shared", "train", *keep(directory), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_step(process, step):
    """Reads what a process prints up to a step: its lines."""
    lines = []
    while not lines or lines[-1].get("step") != step:
        lines.append(json.loads(process.stdout.readline()))
    return lines
