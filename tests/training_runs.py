"""Runs of `train` that are small, in this process or in one of their own, and what they leave."""

import contextlib
import io
import json
import multiprocessing
import os
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from shared.cli import main
from shared.training.leaves import leaves_of

TEXT = "the quick brown fox jumps over the lazy dog. " * 30
SIZES = {"steps": 12, "batch_size": 2, "length": 8, "features": 8, "num_layers": 1}
# The libraries are half of the time of a small run. What is ours each run imports for itself.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["flax.linen", "flax.nnx", "optax", "orbax.checkpoint"])
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
    process = Forked(["train", *keep(directory), *words])
    try:
        yield process
    finally:
        process.end()


class Forked:
    """A command in a fork of a process that has imported the libraries; used as a `Popen`."""

    def __init__(self, words):
        received, sent = zip(*(FORKS.Pipe(duplex=False) for _ in range(2)), strict=True)
        self._process = FORKS.Process(target=called, args=(words, *sent))
        self._process.start()
        self.pid = self._process.pid
        for end in sent:
            end.close()  # or what is read does not end with the process
        self.stdout, self.stderr = (os.fdopen(os.dup(end.fileno())) for end in received)

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def end(self):
        self.kill()
        self._process.join()
        self.stdout.close()
        self.stderr.close()

    def communicate(self, timeout=None):
        """(the rest of what it prints, what it says), once it has ended; a pipe holds them."""
        self._process.join(timeout)
        assert self.returncode is not None
        return self.stdout.read(), self.stderr.read()

    @property
    def returncode(self):
        return self._process.exitcode


def called(words, out, error):
    """The command, in the process that is its own."""
    for number, end in ((1, out), (2, error)):
        os.dup2(end.fileno(), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    sys.exit(main(words))


def wait_for_step(process, step):
    """Reads what a process prints up to a step: its lines."""
    lines = []
    while not lines or lines[-1].get("step") != step:
        line = process.stdout.readline()
        assert line, process.communicate(5)
        lines.append(json.loads(line))
    return lines
