"""A fault at any call to the file system, and two at one target: fault_sweep.py has all points."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_injection import HELD, Faults, environment
from fault_programs import make_orbax

TESTS = Path(__file__).parent
COMMAND = "convert"
NUM_ROUNDS = 10
ERROR = r"composed-lifts: error: \S+/ck"


def printed(script, *words, expected=0):
    run = subprocess.run(
        [sys.executable, TESTS / script, *words], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == expected, run.stdout + run.stderr
    assert run.stderr == ""
    return run.stdout


def swept(*words, expected=0):
    """{(command, fault): (points, new at the target, as it was, lost data)}, and what is wrong."""
    lines = printed("fault_sweep.py", *words, expected=expected).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[0] == "|"]
    table = {(command, fault): tuple(map(int, rest)) for command, fault, *rest in cells[2:]}
    return table, [line for line in lines if line[0] == "!"]


def test_after_a_fault_nothing_is_lost():
    kinds = ("kill -9", "ENOSPC", "EIO from then on")
    table, _ = swept("--commands", COMMAND, "--points=6", "--kinds", *kinds)
    # TensorStore may make fewer calls than in the run before.
    assert all(1 <= points <= 2 for points, *_ in table.values())
    assert {lost for *_, lost in table.values()} == {0}


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["folder", "file"])
def test_after_a_fault_at_any_call_nothing_is_lost(command):
    table, _ = swept("--commands", command, "--kinds", "kill -9", "EIO from then on")
    assert {lost for *_, lost in table.values()} == {0}
    # Some are killed before it has its name, some after that.
    assert all(0 < new < points for (_, kind), (points, new, *_) in table.items() if "kill" in kind)


@pytest.mark.thorough
def test_the_sweep_finds_what_is_lost_without_the_protocol():
    kinds = ("kill -9", "ENOSPC")
    table, wrong = swept("--commands", "unsafe", "--points=16", "--kinds", *kinds, expected=1)
    for (_, kind), (points, _, _, lost) in table.items():
        assert points >= lost > 0, kind
    assert any("the old one is gone" in line for line in wrong)


@contextlib.contextmanager
def held(tmp_path, number):
    """A command that is held at a call to the file system: (its process, the one that it has)."""
    for name in ("made", "from", "to"):
        (tmp_path / name).mkdir()
    make_orbax(str(tmp_path / "from" / "ck"), 1)
    started_with = environment(tmp_path / "made")
    words = (f"--source_path={tmp_path}/from/ck", f"--target_path={tmp_path}/to/ck")
    with (
        Faults(started_with).at(tmp_path / "to", HELD, number),
        subprocess.Popen(
            [sys.executable, "-m", "shared", "convert", *words],
            env=started_with,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        yield process, held_child(process)


def held_child(process):
    of_process = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        for child in map(int, of_process.read_text().split()):
            if Path(f"/proc/{child}/stat").read_text().rsplit(")")[1].split()[0] == "T":
                return child
        time.sleep(0.01)
    raise AssertionError(process.stderr.read())


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_leaves_nothing(tmp_path, number):
    with held(tmp_path, 30) as (process, child):
        assert list((tmp_path / "to").glob("ck.tmp-*"))
        process.send_signal(number)
        os.kill(child, number)  # as a terminal does
        os.kill(child, signal.SIGCONT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert error.splitlines()[-1] == (
        f"composed-lifts: error: interrupted; {tmp_path}/to/ck is as it was"
    )
    assert not list((tmp_path / "to").iterdir())


@pytest.mark.thorough
def test_of_a_command_that_is_killed_nothing_goes_on(tmp_path):
    with held(tmp_path, 30) as (process, child):
        process.kill()
        process.wait()
        wait_for_end(child)
    left = sorted(path.name for path in (tmp_path / "to").iterdir())
    assert left[0] == "ck.lock"
    assert all(name.startswith("ck.tmp-") for name in left[1:])
    words = (f"--source_path={tmp_path}/from/ck", f"--target_path={tmp_path}/to/ck")
    again = subprocess.run(
        [sys.executable, "-m", "shared", "convert", *words], capture_output=True, text=True
    )
    assert again.returncode == 0
    assert f", left by process {child}: removed" in again.stderr
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["ck"]


def wait_for_end(child):
    end = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        time.sleep(0.01)


def test_of_two_processes_one_publishes(pytestconfig):
    """The other one names it, or comes when the target is there."""
    num_rounds = NUM_ROUNDS if pytestconfig.getoption("--thorough") else 2
    told = 0
    for line in printed("checkpoint_races.py", COMMAND, str(num_rounds)).splitlines():
        found = json.loads(line)
        winner, loser = sorted(found["ends"], key=lambda end: end[1])
        assert (winner[1], loser[1]) == (0, 4)
        assert "error" not in winner[2]
        *_, last = loser[2].splitlines()
        named = re.fullmatch(rf"{ERROR}: process {winner[0]} since \S+Z writes it; .*", last)
        assert named or "is there already" in last
        told += bool(named)
        assert found["whole"] == [0, ""]
        assert found["left"] == ["ck"]
    assert told
