"""`verify` finds porting mistakes: the verdict is right in all, the lines in nineteen of twenty."""

import pytest
from planted_mistakes import BUGS, LINES_MISSED, PORTS, load, run

from shared.report.result import PASSES
from shared.verification.pipeline import verify


@pytest.mark.parametrize("row", BUGS, ids=[f"{row[0]}-{row[1]}-{i}" for i, row in enumerate(BUGS)])
def test_bug_is_found(row, tmp_path):
    said = run(row, tmp_path)
    assert said["verdict"] == "different"
    missed = row[:2] in LINES_MISSED
    assert (said["linen"][1] and said["nnx"][1]) != missed, said


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
