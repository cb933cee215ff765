"""`verify` finds porting mistakes: the verdict is right in all, the lines in nineteen of twenty."""

import pytest
from helpers import planted_rows
from planted_mistakes import BUGS, LINES_MISSED, PORTS, load, run

from shared.report.result import PASSES
from shared.verification.pipeline import verify

# Models that take little time come first: of each kind of mistake the first row is run, the
# others with --thorough.
QUICK = ("mlp", "convnet", "choices", "mixer", "resnet", "vae", "ensemble", "experts", "layouts")


def rank(model):
    return QUICK.index(model) if model in QUICK else len(QUICK)


ROWS = list(planted_rows(BUGS, rank))


@pytest.mark.parametrize("row", ROWS)
def test_bug_is_found(row, tmp_path, pytestconfig):
    said = run(row, tmp_path, quickly=not pytestconfig.getoption("thorough"))
    assert said["verdict"] == "different"
    missed = row[:2] in LINES_MISSED
    assert (said["linen"][1] and said["nnx"][1]) != missed, said


def test_each_kind_is_run_without_thorough():
    kept = [param.values[0] for param in ROWS if len(param.marks) == 1]
    assert {row[1] for row in kept} == {row[1] for row in BUGS}


@pytest.mark.quick("mlp.PAIR", "choices.LOOP", "vae.PAIR")
@pytest.mark.parametrize("pair", sorted({row[0] for row in BUGS}))
def test_ports_without_a_bug_pass(pair):
    file, name = pair.split(".")
    found = verify(load(PORTS / f"{file}.py", name), samples=1)
    assert found.verdict in PASSES, found


def test_lines_are_right_in_nineteen_of_twenty():
    kinds, models = {row[1] for row in BUGS}, {row[0].split(".")[0] for row in BUGS}
    assert len(LINES_MISSED) <= 0.05 * len(BUGS)
    assert LINES_MISSED.keys() <= {row[:2] for row in BUGS}
    assert len(BUGS) >= 40
    assert len(kinds) >= 15
    assert len(models) >= 12
