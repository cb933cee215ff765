"""A measured quantity in words and as plain data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from shared.report.measured import Quantity, Ratio

_PREFIXES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def cell(row: Quantity, column: str) -> str:
    """What a row says of a column; of all but its first with the ratio to it."""
    if column not in row.values:
        return ""
    value = number_text(row.values[column], row.unit)
    ratio = row.ratios.get(column)
    if ratio is None or column == next(iter(row.values)):
        return value
    return f"{value}  {spread(ratio) if row.unit == 's' else f'x{ratio_text(ratio.median)}'}"


def spread(ratio: Ratio) -> str:
    """A ratio with its tenths; of one round alone there are none."""
    median, low, high = map(ratio_text, ratio)
    return f"x{median} ({low}-{high})" if ratio.low < ratio.high else f"x{median}"


def ratio_text(ratio: float) -> str:
    """Two digits behind the point, three of what is small."""
    return f"{ratio:.3f}" if 0 < ratio < 0.1 else f"{ratio:.2f}"


def number_text(value: float, unit: str) -> str:
    if unit == "s":
        size, name = next((p for p in _PREFIXES if value >= p[0]), _PREFIXES[-1])
        return f"{value / size:.3g} {name}"
    if unit == "bytes":
        return bytes_text(value)
    if unit == "same":
        return "yes" if value else "no"
    if unit == "params":
        return f"{value:.2f} x params"
    return f"{value:.3g}"


def bytes_text(value: float) -> str:
    for size, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.0f} B"


def quantity_json(row: Quantity) -> dict[str, Any]:
    """A row as plain data."""
    ratios = {column: ratio._asdict() for column, ratio in row.ratios.items()}
    return {**dataclasses.asdict(row), "values": dict(row.values), "ratios": ratios}


def quantity_of(data: Mapping[str, Any]) -> Quantity:
    """The inverse of `quantity_json`."""
    ratios = {column: Ratio(**ratio) for column, ratio in data["ratios"].items()}
    return Quantity(data["name"], data["unit"], data["values"], ratios)
