"""What `verify` found: in a terminal and in JSON."""

import dataclasses
import json
import linecache
import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.errors import printable
from shared.files import Writer
from shared.program.source import shown
from shared.report.document import SCHEMA_VERSION, measured, versions
from shared.report.result import NAMED, PASSES, Check, Divergence, Spot, Verification

_STYLES = {"identical": "green", "equal": "green", "close": "green", "different": "red"}
_FOLDED = 12
_AROUND = 2


def verification_json(found: Verification) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "verify",
        "verdict": found.verdict,
        "remark": found.remark,
        "checks": [
            {key: _finite(value) for key, value in dataclasses.asdict(check).items()}
            for check in found.checks
        ],
        "weight_map": found.rows,
        "unmatched": {"linen": found.unmatched_linen, "nnx": found.unmatched_nnx},
        "rng_state": found.rng_leaves,
        "divergence": _divergence_json(found.divergence),
        "versions": versions(),
    }


def write_report(found: Mapping[str, Verification], document: Mapping[str, Any], path: str) -> None:
    """Writes the report to `path`, a page or `document` as JSON, wholly or not at all."""
    from shared.report.page import page

    writer = Writer(path, writable=(".html", ".json"), flag="--report")
    html = path.endswith(".html")
    text = page(dict(found)) if html else json.dumps(document, indent=1, allow_nan=False)
    writer.write_text(text)


def print_verification(name: str, found: Verification, brief: bool = False) -> None:
    """The verdict in one line; unless `brief`, every check, the map, the two places."""
    console = Console(highlight=False)
    style = _STYLES.get(found.verdict, "yellow")
    line = Text.assemble((found.verdict, f"bold {style}"), "  ", printable(name))
    if found.remark:
        line.append(f"  {printable(found.remark)}")
    console.print(line, soft_wrap=True)
    if brief and found.verdict in PASSES:
        return
    if found.divergence:
        _print_divergence(console, found.divergence)
    _print_checks(console, found)
    _print_map(console, found, all_rows=len(found.rows) <= _FOLDED)


def _print_divergence(console: Console, divergence: Divergence) -> None:
    console.print(Text(f"\nfirst difference: {divergence.reason}\n", style="bold"), soft_wrap=True)
    sides = [("linen", divergence.linen), ("nnx", divergence.nnx)]
    for side, spot in sides:
        if spot is None:
            console.print(Text(f"{side}: nowhere"))
            continue
        layer = f", layer {','.join(map(str, spot.layer))}" if spot.layer else ""
        console.print(
            Text.assemble((f"{side}  ", "bold"), f"{shown(spot.file)}:{spot.line}{layer}"),
            soft_wrap=True,
        )
        for number, text, marked in _excerpt(spot):
            mark = ">" if marked else " "
            console.print(
                Text(f"  {mark} {number:4d}  {text}", style="bold" if marked else "dim"),
                soft_wrap=True,
            )
        console.print(Text(f"         {spot.op}: {spot.values}\n"), soft_wrap=True)


def _excerpt(spot: Spot) -> list[tuple[int, str, bool]]:
    numbers = range(max(1, spot.line - _AROUND), spot.line + _AROUND + 1)
    lines = [(n, linecache.getline(spot.file, n).rstrip()) for n in numbers]
    return [(n, text, n == spot.line) for n, text in lines if text or n == spot.line]


def _print_checks(console: Console, found: Verification) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title in ("check", "status", "max abs", "max rel", "limit", "note"):
        table.add_column(title, overflow="fold")
    for check in found.checks:
        table.add_row(
            *map(
                Text,
                (
                    check.name,
                    check.status,
                    measured(check.max_abs),
                    measured(check.max_rel),
                    check.limit or "",
                    printable(_note(check, found)),
                ),
            )
        )
    console.print(table)


def _note(check: Check, found: Verification) -> str:
    """What else there is to say of a check, if that is not in the first line already."""
    return "" if check.note and check.note == found.remark else check.note or check.worst_leaf or ""


def _print_map(console: Console, found: Verification, all_rows: bool) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title in ("linen", "nnx", "transform"):
        table.add_column(title, overflow="fold")
    rows = found.rows if all_rows else found.rows[: _FOLDED // 2]
    for row in rows:
        table.add_row(*(Text(printable(row[key])) for key in ("linen", "nnx", "transform")))
    if rows:
        console.print(table)
    if len(rows) < len(found.rows):
        console.print(Text(f"and {len(found.rows) - len(rows)} more: --report=FILE.json lists all"))
    for side, paths in (("Linen", found.unmatched_linen), ("NNX", found.unmatched_nnx)):
        if len(paths) > NAMED:  # fewer are all in the first line
            console.print(Text(printable(f"only in {side}: {', '.join(paths)}")))
    if found.rng_leaves:
        console.print(Text(printable(f"random state of NNX: {', '.join(found.rng_leaves)}")))


def _divergence_json(divergence: Divergence | None) -> dict[str, Any] | None:
    if divergence is None:
        return None
    found = dataclasses.asdict(divergence)
    return {key: found[key] for key in ("reason", "linen", "nnx")}


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
