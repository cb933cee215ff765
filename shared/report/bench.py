"""What `bench` found: in a terminal, in JSON and on a page."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from shared.errors import printable
from shared.files import Writer
from shared.report.document import SCHEMA_VERSION, versions
from shared.report.machine import machine, machine_text
from shared.report.measured import Benchmark, Quantity
from shared.report.params import print_line, print_title, terminal
from shared.report.plot import INSTALL, check_matplotlib, has_matplotlib, plot_bench
from shared.report.quantities import bytes_text, cell, quantity_json, spread

READ = "medians; behind each its ratio to the first column, in brackets the tenths of the rounds"


def bench_json(found: Benchmark) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "bench",
        "name": found.name,
        "inputs": found.inputs,
        "num_leaves": found.num_leaves,
        "params_bytes": found.params_bytes,
        "implementations": [quantity_json(row) for row in found.implementations],
        "forms": [quantity_json(row) for row in found.forms],
        "same_program": {kind: dict(of) for kind, of in found.same_program.items()},
        "noise": found.noise._asdict(),
        "advice": list(found.advice),
        "machine": machine(),
        "versions": versions(),
    }


def print_bench(found: Benchmark) -> None:
    """Both tables, the noise, the advice."""
    console = terminal()
    console.width = max(console.width, 110)
    print_title(console, f"bench  {printable(found.name)}")
    print_line(console, "in  ", found.inputs)
    print_line(console, "held", f"{found.num_leaves} leaves, {bytes_text(found.params_bytes)}")
    print_line(console, "on  ", machine_text())
    print_line(console, "time", READ)
    console.print(_columns_table(found.implementations))
    console.print(_rows_table(found.forms))
    for line in _programs(found):
        print_line(console, "xla", line)
    print_line(console, "noise", f"two equal programs: {spread(found.noise)}")
    for sentence in found.advice:
        print_line(console, "so", sentence)


def _programs(found: Benchmark) -> list[str]:
    """What XLA makes of each column, a line for what is computed."""
    words = {True: "the program of linen", False: "another program than linen"}
    return [
        f"{kind}, the outputs alone: "
        + ", ".join(f"{column} is {words[same]}" for column, same in of.items())
        for kind, of in found.same_program.items()
    ]


def _columns_table(rows: Sequence[Quantity]) -> Table:
    """A row for each quantity."""
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    table = _table("", *columns)
    for row in rows:
        table.add_row(Text(row.name), *(Text(cell(row, column)) for column in columns))
    return table


def _rows_table(rows: Sequence[Quantity]) -> Table:
    """A row for each form."""
    table = _table("form of the call", *(row.name for row in rows))
    for form in rows[0].values:
        table.add_row(Text(form), *(Text(cell(row, form)) for row in rows))
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold", no_wrap=title == titles[0])
    return table


def write_bench(found: Benchmark, document: Mapping[str, Any], writer: Writer) -> None:
    """Writes the report: a page, a picture, or `document` as JSON.

    Raises:
      UsageError: a picture is asked for, and there is no matplotlib.
    """
    if writer.suffix == ".png":
        check_matplotlib(f"--report={writer.shown}")
        writer.write_bytes(plot_bench(found, "png"))
    elif writer.suffix == ".html":
        writer.write_text(_page(found))
    else:
        writer.write_text(json.dumps(document, indent=1))


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .2rem .8rem; text-align: left }
tr:nth-child(even) { background: #8881 }
th { border-bottom: 1px solid #888 }
svg { max-width: 100%; height: auto }
"""


def _page(found: Benchmark) -> str:
    """The same tables as a page that needs nothing else."""
    columns = list(dict.fromkeys(c for row in found.implementations for c in row.values))
    first = [[row.name, *(cell(row, c) for c in columns)] for row in found.implementations]
    second = [[form, *(cell(row, form) for row in found.forms)] for form in found.forms[0].values]
    described = f"{found.inputs}; {found.num_leaves} leaves, {bytes_text(found.params_bytes)}"
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    parts = [
        f"<h1>bench {_text(found.name)}</h1>",
        f"<p>{_text(described)}</p>",
        *(f"<p><b>{_text(sentence)}</b></p>" for sentence in found.advice),
        _picture(found),
        f"<p>{_text(READ)}</p>",
        _html_table(["", *columns], first),
        _html_table(["form of the call", *(row.name for row in found.forms)], second),
        *(f"<p>{_text(line)}</p>" for line in _programs(found)),
        f"<p>Two equal programs: {spread(found.noise)}</p>",
        f"<p>{_text(machine_text())}; {_text(made_with)}</p>",
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    title = f"<title>bench {_text(found.name)}</title>"
    return f"<!doctype html>{head}{title}<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n"


def _picture(found: Benchmark) -> str:
    if not has_matplotlib():
        return f"<p>With a picture: {_text(INSTALL)}</p>"
    svg = plot_bench(found, "svg").decode()
    return svg[svg.index("<svg") :]


def _html_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _text(text: str) -> str:
    return html.escape(printable(text))
