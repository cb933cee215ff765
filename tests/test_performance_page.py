"""`docs/performance.md` is what the command wrote of what it measured."""

import json
from pathlib import Path

import pytest

from benchmarks.performance.page import SECTIONS, page, tables_of
from benchmarks.performance.plot import STEPS, plot
from benchmarks.performance.reasons import reason_of
from benchmarks.performance.targets import limited, targets
from shared.report.measured import Ratio

DOCS = Path(__file__).parent.parent / "docs"
FOUND = json.loads((DOCS / "performance.json").read_text())
TABLES = tables_of(FOUND)


def test_the_page_is_written_of_what_was_measured():
    assert (DOCS / "performance.md").read_text() == page(FOUND, TABLES)


def test_all_sections_are_measured():
    assert set(SECTIONS) - {"targets"} == TABLES.keys()


def test_the_picture_has_its_lines():
    drawn = plot(TABLES).decode()
    assert all(f">{name}<" in drawn for name in STEPS)


def test_what_is_not_reached_has_a_reason():
    for each in targets(TABLES):
        assert each.verdict != "no" or reason_of(each.quantity)
    with pytest.raises(KeyError, match="no reason is written"):
        reason_of("another quantity")


@pytest.mark.parametrize(
    ("measured", "noise", "verdict"),
    [
        (1.04, None, "yes"),
        (1.06, None, "no"),
        (Ratio(1.06, 1.0, 1.1), None, "no"),
        (Ratio(1.06, 1.0, 1.1), Ratio(1.0, 0.9, 1.1), "within noise"),
        (Ratio(1.06, 1.0, 1.1), Ratio(1.0, 0.99, 1.01), "no"),
    ],
)
def test_a_limit_counts_up_to_what_two_equal_programs_differ(measured, noise, verdict):
    assert limited("a / b", 1.05, measured, noise).verdict == verdict
