"""Training on a mesh computes what one device does; several processes, and what goes wrong there.

The devices are those of processes of their own: see `train_on_mesh.py`.
"""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from shared.training.config import Config
from shared.training.run import first_state, steps, validation_loss
from shared.training.text import tokens_of, topics
from shared.training.trainer import load_trainer

ROOT = Path(__file__).parent.parent
OTHERS, MORE = ("data:8", "data:2,model:4"), pytest.mark.thorough

# Relative, of losses. The sums over windows, heads and `hidden` are made in another order: each
# rounds otherwise by 2**-24, and a loss is rounded to 2**-23 of itself. Steps do not add to it:
# of 400 steps at 32 features none was off by more than 4e-7, the first ten by 3e-7.
OTHER_ORDER = 1e-6
# Of a gradient, relative to the largest number of it: that by the biases of the keys is rounding
# alone, for a softmax does not see them.
OF_GRADIENTS = 1e-5

# How a leaf is parted over `model`, by the end of its path: how many there are, over which axis.
OVER_MODEL = {
    **{f"{name}/kernel": 2 for name in ("query", "key", "value")},
    **{f"{name}/bias": 1 for name in ("query", "key", "value")},
    "out/kernel": 1,
    "up/kernel": 2,
    "up/bias": 1,
    "down/kernel": 1,
}

pytestmark = pytest.mark.xdist_group("training on a mesh")  # the fixtures are made once


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run_all(*commands, kill=None, timeout=240, **env):
    """(exit code, stdout, stderr) of each, run at one time; `kill` gets them once they run."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **env}
    with contextlib.ExitStack() as stack:
        started = []
        for command in commands:
            # Files: one process would wait for room in a pipe, the other for that process.
            out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
            process = subprocess.Popen(
                [sys.executable, *command], env=env, stdout=out, stderr=err, cwd=ROOT
            )
            stack.callback(process.kill)
            started.append((process, out, err))
        if kill is not None:
            kill(started)
        found = []
        for process, *files in started:
            code = process.wait(timeout)
            found.append((code, *(file.seek(0) or file.read() for file in files)))
    return found


@functools.cache
def on_mesh(mesh):
    """What was seen on one mesh, and on one device; or of gradients, on both."""
    [(code, out, err)] = run_all(["tests/train_on_mesh.py", mesh])
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(params=["data:4,model:2", *(pytest.param(each, marks=MORE) for each in OTHERS)])
def mesh(request):
    return request.param


def off_by(received, expected):
    """The largest relative difference, and the step that has it."""
    received, expected = np.array(received), np.array(expected)
    off = np.abs(received - expected) / np.abs(expected)
    return off.max(), off.argmax() + 1


def assert_losses(received, expected, what):
    off, step = off_by(received, expected)
    sys.stdout.write(f"{what}: off by {off:.1e} in step {step}, limit {OTHER_ORDER:.0e}\n")
    assert off <= OTHER_ORDER


def test_the_losses_are_those_of_one_device(mesh):
    found = on_mesh(mesh)
    for name in ("linen", "nnx"):
        assert_losses(found[mesh][name]["losses"], found["one device"]["losses"], (mesh, name))
        last = [[part["validation"]] for part in (found[mesh][name], found["one device"])]
        assert_losses(*last, (mesh, name, "validation"))


def test_both_have_the_same_losses_and_params_bit_for_bit(mesh):
    found = on_mesh(mesh)[mesh]
    for what in ("losses", "validation", "first params", "params"):
        assert found["linen"][what] == found["nnx"][what]


def test_the_first_params_are_those_of_one_device(mesh):
    found = on_mesh(mesh)
    assert found[mesh]["linen"]["first params"] == found["one device"]["first params"]


def test_params_and_moments_are_parted_by_heads_and_by_hidden(mesh):
    found = on_mesh(mesh)
    for name in ("linen", "nnx"):
        placed = found[mesh][name]["placement"]
        whole = found["one device"]["placement"]
        for tail, shapes in whole.items():
            if tail in OVER_MODEL:
                parted = shapes[0].copy()
                parted[OVER_MODEL[tail]] //= model_devices(mesh)
                # The param and its two moments.
                assert placed[tail] == [parted] * 3
            elif tail.split("/")[-1] in ("kernel", "bias", "scale", "embedding"):
                assert placed[tail] == shapes


def model_devices(mesh):
    return int(dict(word.split(":") for word in mesh.split(",")).get("model", 1))


def test_a_state_stays_where_it_lies_and_its_memory_is_reused(mesh):
    for name in ("linen", "nnx"):
        found = on_mesh(mesh)[mesh][name]
        assert found["placement"] == found["last placement"]
        assert found["donated"]
        assert found["compiled after the first step"] == 0


def test_no_device_ever_holds_what_is_parted(mesh):
    for name in ("linen", "nnx"):
        assert on_mesh(mesh)[mesh][name]["collectives"] == ["all-reduce"]


def off_gradients(received, expected):
    received, expected = (np.concatenate([np.ravel(x) for x in y]) for y in (received, expected))
    return np.abs(received - expected).max() / np.abs(expected).max()


@MORE
def test_a_gradient_that_is_a_mean_per_device_is_found():
    """Losses do not show it at once: neither Adam nor a clip looks at the size of a gradient."""
    found = on_mesh("gradients")
    off = {name: off_gradients(found[name], found["one device"]) for name in found}
    sys.stdout.write(f"{off}, limit {OF_GRADIENTS:.0e}\n")
    assert off["on the mesh"] <= OF_GRADIENTS
    assert off["a mean over the batch"] <= OF_GRADIENTS
    assert np.isclose(off["a mean per device"], 8 - 1)  # as large as the devices are many


CONFIG = Config(steps=3, batch_size=8, length=8, num_layers=1, features=8)
SIZES = [f"--{name}={getattr(CONFIG, name)}" for name in ("steps", "batch_size", "length")]
SIZES += [f"--{name}={getattr(CONFIG, name)}" for name in ("num_layers", "features")]


@pytest.fixture
def train(tmp_path):
    """The words that start one of two processes."""
    path = tmp_path / "text"
    path.write_text(topics()[:1000])
    port = free_port()

    def words(process, *more):
        return [
            *("-m", "shared", "train", *SIZES, f"--text={path}", "--mesh=data:4,model:2"),
            *(f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2"),
            *(f"--process_id={process}", "--format=json", *more),
        ]

    return words


@pytest.mark.thorough
@pytest.mark.parametrize("impl", ["nnx", "linen"])
def test_two_processes_train_as_one_and_the_first_one_prints(train, impl):
    commands = [train(process, f"--impl={impl}") for process in (0, 1)]
    first, second = run_all(*commands, JAX_NUM_CPU_DEVICES="4")
    assert (first[0], first[2]) == (0, "")
    assert second == (0, "", "")
    start, *made, end = map(json.loads, first[1].splitlines())
    assert (start["mesh"], start["num_processes"]) == ({"data": 4, "model": 2}, 2)
    assert end["samples"]

    text = tokens_of(topics()[:1000], CONFIG.length)
    trainer = load_trainer(impl)
    losses = []
    for made_here in steps(trainer, first_state(trainer, CONFIG, text), CONFIG, text, done=0):
        losses.append(float(made_here.loss))
    assert_losses([step["loss"] for step in made], losses, "two processes")
    last = validation_loss(trainer, made_here.state, CONFIG, text)
    assert_losses([made[-1]["validation"]], [last], "two processes, validation")


@pytest.mark.thorough
def test_a_process_whose_peer_does_not_come_says_so(train):
    [(code, out, err)] = run_all(train(0, "--impl=linen", "--initialization_timeout=1"))
    assert (code, out) == (4, "")
    assert err.startswith("composed-lifts: error: --coordinator_address=127.0.0.1:")
    assert "of 2 processes not all came in 1 s" in err
    assert err.count("\n") == 1


@pytest.mark.thorough
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_whose_peer_is_gone_says_so(train, killed):
    more = ("--impl=linen", "--steps=100000", "--heartbeat_timeout_seconds=10")

    def kill(started):
        for _ in range(1200):
            if os.fstat(started[0][1].fileno()).st_size > 2000:
                break
            time.sleep(0.1)
        started[killed][0].send_signal(signal.SIGKILL)

    commands = [train(process, *more) for process in (0, 1)]
    found = run_all(*commands, kill=kill, JAX_NUM_CPU_DEVICES="4")
    assert found[killed][0] == -signal.SIGKILL
    code, _, err = found[1 - killed]
    assert (code, err.count("\n")) == (4, 1)
    assert "another process of this run is gone" in err


@pytest.mark.parametrize("two", [("--steps=2", "--steps=3"), ("--mesh=data:4", "--mesh=data:4")])
@pytest.mark.thorough
def test_what_is_wrong_with_all_processes_is_said_by_each(train, two):
    commands = [train(process, "--impl=linen", more) for process, more in enumerate(two)]
    for code, out, err in run_all(*commands, JAX_NUM_CPU_DEVICES="4"):
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "other flags" in err or "takes 4 devices, JAX has 8 (cpu) in 2 processes" in err
