"""`verify` finds mistakes that only training shows: the verdict is right in all of the table."""

import pytest
from helpers import planted_rows
from planted_mistakes import PORTS, load, run, without_xla
from planted_training_mistakes import BUGS, LINES_MISSED

from shared.report.result import PASSES
from shared.verification.checks.table import ALL_CHECKS
from shared.verification.pipeline import verify

# Models that take much time come last: of each kind of mistake the first row is run, the
# others with --thorough.
SLOW = ("mixer", "vae", "depth", "ensemble", "convnet", "resnet", "t5", "llama")


def rank(model):
    return 1 + SLOW.index(model) if model in SLOW else 0


ROWS = list(planted_rows(BUGS, rank))


@pytest.mark.parametrize("row", ROWS)
def test_bug_is_found(row, tmp_path, pytestconfig):
    if pytestconfig.getoption("thorough"):
        said = run(row, tmp_path, checks=ALL_CHECKS)
    else:
        # What shows in training alone is looked for first.
        checks = ("training_mode", "initial", "metadata")
        with without_xla():
            said = run(row, tmp_path, checks=checks)
            if said["verdict"] != "different":
                said = run(row, tmp_path, checks=("forward", *checks))
    assert said["verdict"] == "different"
    missed = row[:2] in LINES_MISSED
    assert (said["linen"][1] and said["nnx"][1]) != missed, said


def test_each_kind_is_run_without_thorough():
    kept = [param.values[0] for param in ROWS if len(param.marks) == 1]
    assert {row[1] for row in kept} == {row[1] for row in BUGS}


@pytest.mark.quick("gumbel.PAIR", "sharded.PAIR")
@pytest.mark.parametrize("pair", sorted({row[0] for row in BUGS}))
def test_ports_without_a_bug_pass(pair):
    file, name = pair.split(".")
    found = verify(load(PORTS / f"{file}.py", name), samples=1)
    assert found.verdict in PASSES, found
    assert not [check for check in found.checks if check.note.startswith("not looked at")]


def test_lines_are_right_in_nineteen_of_twenty():
    kinds, models = {row[1] for row in BUGS}, {row[0].split(".")[0] for row in BUGS}
    assert len(LINES_MISSED) <= 0.05 * len(BUGS)
    assert LINES_MISSED.keys() <= {row[:2] for row in BUGS}
    assert len(BUGS) >= 40
    assert len(kinds) >= 15
    assert len(models) >= 10
