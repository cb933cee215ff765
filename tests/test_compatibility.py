"""Each row of the table of old versions in docs/checkpoints.md is what is found."""

from pathlib import Path

import pytest
from compatibility import EXPECTED, FORMS, VERSIONS, WRITTEN_BY, row, table, unpacked

PAGE = (Path(__file__).parent.parent / "docs" / "checkpoints.md").read_text()
ROWS = [
    (version, name)
    for version in VERSIONS
    for name in WRITTEN_BY
    if name in EXPECTED[version]["checkpoints"]
]


@pytest.fixture(scope="module", params=VERSIONS)
def written(request):
    with unpacked(request.param) as folder:
        yield request.param, folder


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", WRITTEN_BY)
def test_what_an_old_version_has_written_goes_there_and_back(name, written):
    version, folder = written
    if name in EXPECTED[version]["checkpoints"]:
        found = row(version, folder, name)
        assert found in PAGE.splitlines()
        assert "DIFFERENT" not in found


def test_the_table_has_a_row_for_each():
    lines = PAGE.splitlines()
    header = next(table())
    first = lines.index(header)
    assert lines[first + 1] == "|---" * (3 + len(FORMS)) + "|"
    rows = lines[first + 2 : first + 2 + len(ROWS)]
    assert [line.split(" | ")[0] for line in rows] == [
        f"| Flax {version}, Orbax {EXPECTED[version]['versions']['orbax-checkpoint']}"
        for version, _ in ROWS
    ]
    assert not lines[first + 2 + len(ROWS)].startswith("|")
