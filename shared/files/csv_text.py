"""Rows of numbers in a text."""

import array
import csv
from collections.abc import Iterator
from typing import IO

import numpy as np

from shared.errors import InputError, first_line
from shared.files import limits

# What programs write where a number is missing: no name of a column.
_MISSING = {"", "na", "n/a", "#n/a", "null", "none", "?", "-", "."}


def read_csv(path: str, size: int) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The rows (B, F), and the header: the first row, if all its cells are names."""
    if size > limits.MAX_CSV_BYTES:
        raise InputError(
            f"{path}: {size:,} bytes of text, the limit is {limits.MAX_CSV_BYTES:,}; "
            f"save it as .npy"
        )
    numbers = array.array("d")
    header: tuple[str, ...] | None = None
    width, num_rows = None, 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for line, row in _numbered_rows(file):
                if width is None:
                    width = len(row)
                    if all(_is_name(cell) for cell in row):
                        header = tuple(cell.strip() for cell in row)
                        continue
                if len(row) != width:
                    raise InputError(
                        f"{path}: row {line} has {len(row)} cells, the first has {width}"
                    )
                for column, cell in enumerate(row, start=1):
                    if not _is_number(cell):
                        raise InputError(
                            f"{path}: row {line}, column {column}: expected a number, "
                            f"received {cell[:40]!r}; keep columns of numbers only, "
                            f"separated by commas"
                        )
                    numbers.append(float(cell))
                num_rows += 1
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV text: {first_line(error)}") from error
    if not num_rows:
        raise InputError(f"{path}: holds no row of numbers")
    values = np.frombuffer(numbers).reshape(num_rows, width or 0)
    with np.errstate(over="ignore"):
        # A decimal text has no dtype of its own: it is read as what the models compute in.
        return values.astype(np.float32), header


def _numbered_rows(file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, strict=True)
    for row in reader:
        if row:
            yield reader.line_num, row


def _is_name(cell: str) -> bool:
    return not _is_number(cell) and cell.strip().lower() not in _MISSING


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
