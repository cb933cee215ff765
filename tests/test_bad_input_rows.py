"""No row of the table of bad inputs is without a test, and each that is named is there."""

import ast

from bad_input_rows import OF_CONVERT, ROWS, TESTS, numbered, of_row


def _functions(file):
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_no_row_is_left_out():
    assert list(ROWS) == [*range(1, 41)]
    assert [row for row in ROWS if not of_row(row)] == []


def test_what_is_named_is_there():
    for _, tests in ROWS.values():
        for test in tests:
            file, name = test.split("::")
            assert name in _functions(file), test


def test_no_table_is_without_a_row():
    """A parameter without a number would be of none."""
    for file in OF_CONVERT:
        rows = {row for row, _ in numbered(file)}
        assert rows, file
        assert rows <= ROWS.keys()
