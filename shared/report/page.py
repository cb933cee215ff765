"""What `verify` found as one HTML page that needs no network."""

import linecache
import os
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from shared.errors import printable
from shared.program.source import Place
from shared.report.document import measured, versions
from shared.report.result import MAX_OPERATIONS, Row, Spot, Verification

_STYLE = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --odd: #9a6700;
  --line: color-mix(in srgb, currentColor 18%, transparent);
  --mark: color-mix(in srgb, var(--bad) 16%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
code, pre, .code { font: 13px/1.5 ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .6rem .2rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
.identical, .equal, .close { color: var(--good); } .different { color: var(--bad); }
.undecided { color: var(--odd); }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.sides > div { min-width: 0; } pre { overflow-x: auto; margin: .3rem 0; }
pre > * { display: block; } mark { background: var(--mark); color: inherit; }
.program { table-layout: fixed; } .program td:nth-child(-n+2) { width: 35%; }
.program td:nth-child(4) { width: 7rem; } .only { background: var(--mark); }
.other { opacity: .75; }
summary { cursor: pointer; } .faint { opacity: .7; }
@media (max-width: 50rem) { .sides { grid-template-columns: 1fr; } }
"""
_AROUND = 4
_CLASSES = {"same": "program", "other values": "program other", "only here": "program only"}
# Rows in a row that say the same are folded, and maps longer than this.
_FOLDED = 12


def page(results: dict[str, Verification]) -> str:
    """The page of one or several verifications by name."""
    title = "composed-lifts verify"
    body = "".join(_result(name, found) for name, found in results.items())
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f'<body>{body}<p class="faint">{_text(used)}</p></body></html>\n'
    )


def _result(name: str, found: Verification) -> str:
    parts = [
        f'<h1><span class="{found.verdict}">{found.verdict}</span> {_text(name)}</h1>',
        f"<p>{_text(found.remark)}</p>" if found.remark else "",
    ]
    if found.divergence:
        sides = (("Linen", found.divergence.linen), ("NNX", found.divergence.nnx))
        excerpts = "".join(f"<div>{_excerpt(side, spot)}</div>" for side, spot in sides)
        parts.append(f"<h2>First difference: {_text(found.divergence.reason)}</h2>")
        parts.append(f'<div class="sides">{excerpts}</div>')
    parts += ["<h2>Checks</h2>", _checks(found), "<h2>Weights</h2>", _weights(found)]
    rows = found.aligned()
    if rows:
        parts += ["<h2>The two programs</h2>", _programs(rows)]
    return "".join(parts)


def _excerpt(side: str, spot: Spot | None) -> str:
    if spot is None:
        return f"<b>{side}</b>: nowhere"
    layer = f", layer {','.join(map(str, spot.layer))}" if spot.layer else ""
    lines = []
    for number in range(max(1, spot.line - _AROUND), spot.line + _AROUND + 1):
        text = linecache.getline(spot.file, number).rstrip()
        line = f"{number:5d}  {_text(text)}"
        lines.append(f"<mark>{line}</mark>" if number == spot.line else f"<span>{line}</span>")
    return (
        f'<b>{side}</b> <span class="code">{_text(spot.file)}:{spot.line}{layer}</span>'
        f"<pre>{''.join(lines)}</pre>"
        f'<span class="code faint">{_text(spot.op)}: {_text(spot.values)}</span>'
    )


def _checks(found: Verification) -> str:
    rows = [
        (
            check.name,
            f'<span class="{check.status}">{check.status}</span>',
            measured(check.max_abs),
            measured(check.max_rel),
            _text(check.limit or ""),
            _text(check.note or check.worst_leaf or ""),
            f"{check.seconds:.1f}",
        )
        for check in found.checks
    ]
    titles = ("check", "status", "max abs", "max rel", "limit", "note", "seconds")
    return _table(titles, rows)


def _weights(found: Verification) -> str:
    rows = [
        (
            f"<code>{_text(row['linen'])}</code> {_shape(row['linen_shape'])}",
            f"<code>{_text(row['nnx'])}</code> {_shape(row['nnx_shape'])}",
            _text(row["transform"]),
            _text(row["by"]),
        )
        for row in found.rows
    ]
    table = _table(("Linen", "NNX", "transform", "known by"), rows)
    if len(rows) > _FOLDED:
        table = f"<details><summary>{len(rows)} pairs</summary>{table}</details>"
    for side, paths in (("Linen", found.unmatched_linen), ("NNX", found.unmatched_nnx)):
        if paths:
            table += f"<p>Only in {side}: <code>{_text(', '.join(paths))}</code></p>"
    if found.rng_leaves:
        table += f"<p>Random state of NNX: <code>{_text(', '.join(found.rng_leaves))}</code></p>"
    return table


def _programs(rows: Sequence[Row]) -> str:
    """Line beside line; long runs of lines that compute the same are folded."""
    parts = []
    for status, group in groupby(rows, key=lambda row: row.status):
        lines = list(group)
        table = _table((), map(_cells, lines), _CLASSES[status])
        if status == "only here" or len(lines) <= 2:
            parts.append(table)
        else:
            opened = "" if len(lines) > _FOLDED else " open"
            summary = f"{len(lines)} lines: {status}"
            parts.append(f"<details{opened}><summary>{summary}</summary>{table}</details>")
    note = (
        '<p class="faint">In the order of the programs, each as flat operations: calls inlined, '
        f"scans unrolled where that is needed; at most {MAX_OPERATIONS} operations. <b>same</b>: "
        "from the same values in the same way; <b>other values</b>: in the same way, behind a "
        "difference; marked: one program alone.</p>"
    )
    return note + "".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    counted = [(op, len(list(group))) for op, group in groupby(row.operations)]
    operations = ", ".join(f"{count} {op}" if count > 1 else op for op, count in counted)
    return _line(row.linen), _line(row.nnx), _text(operations), _shape(row.shape)


def _line(place: Place | None) -> str:
    if place is None:
        return ""
    name = _text(os.path.basename(place.file))
    return f'<span class="faint code">{name}:{place.line}</span> <code>{_text(place.source)}</code>'


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    head = f"<tr>{''.join(f'<th>{title}</th>' for title in titles)}</tr>" if titles else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="{kind}">{head}{body}</table>'


def _shape(shape: Iterable[int]) -> str:
    return f'<span class="faint">({", ".join(map(str, shape))})</span>'


def _text(text: str) -> str:
    return escape(printable(text))
