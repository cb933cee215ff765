"""A fault at any call to the file system, and two at one target: fault_sweep.py has all points."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert [points for points, *_ in table.values()] == [2] * 6
    assert {lost for *_, lost in table.values()} == {0}


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["folder", "file"])
def test_after_a_fault_at_any_call_nothing_is_lost(command):
    table, _ = swept("--commands", command)
    assert {lost for *_, lost in table.values()} == {0}
    assert all(
        0 < new < points for (_, kind), (points, new, *_) in table.items() if "half" not in kind
    )


def test_the_sweep_finds_what_is_lost_without_the_protocol():
    kinds = ("kill -9", "ENOSPC")
    table, wrong = swept("--commands", "unsafe", "--points=16", "--kinds", *kinds, expected=1)
    for (_, kind), (points, _, _, lost) in table.items():
        assert points >= lost > 0, kind
    assert any("the old one is gone" in line for line in wrong)


def test_of_two_processes_one_publishes():
    """The other one names it, or comes when the target is there."""
    told = 0
    for line in printed("checkpoint_races.py", COMMAND, str(NUM_ROUNDS)).splitlines():
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
