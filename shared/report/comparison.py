"""A comparison of two checkpoints on the terminal."""

import collections
from collections.abc import Mapping
from typing import Any

from shared.errors import printable
from shared.report.size import size_text

_SHOWN = 20


def print_comparison(document: Mapping[str, Any]) -> None:
    """Prints what two checkpoints have in common, and each leaf that they have not."""
    for number, side in enumerate(document["checkpoints"], start=1):
        layers = "" if side["layers"] == "keep" else "  layers stacked to be compared"
        print(
            f"{number}  {printable(side['path'])}  {side['layout']}  {side['format']}  "
            f"{side['num_leaves']} leaves  {size_text(side['num_bytes'])}{layers}"
        )
    rows = document["leaves"]
    apart = [row for row in rows if row["status"] != "equal"]
    width = max((len(row["status"]) for row in apart), default=0)
    for row in apart[:_SHOWN]:
        print(f"{row['status']:<{width}}  {_leaf(row)}  {row['what']}{_distance(row)}")
    if len(apart) > _SHOWN:
        print(f"and {len(apart) - _SHOWN} more leaves: --report=FILE.json has all")
    counts = collections.Counter(row["status"] for row in rows)
    verdict = "equal" if document["is_equal"] else "different"
    if verdict == "equal" and counts["close"]:
        limits = document["tolerance"]
        verdict = f"close (atol {limits['atol']:g}, rtol {limits['rtol']:g})"
    print(f"{verdict}  " + ", ".join(f"{count} {status}" for status, count in counts.items()))


def _leaf(row: Mapping[str, Any]) -> str:
    names = dict.fromkeys(name for name in (row["first"], row["second"]) if name)
    return printable(" | ".join(names))


def _distance(row: Mapping[str, Any]) -> str:
    # What is not finite is text in a document.
    return "" if row["max_abs"] is None else f"  (max abs {float(row['max_abs']):.3g})"
