"""The params of a case, a row for each leaf."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from shared.cases import Case
from shared.errors import printable
from shared.trees import flatten


@dataclasses.dataclass(frozen=True)
class ParamRow:
    """One leaf of a tree of params."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[str, ...]


def params_rows(case: Case, variables: Mapping[str, Any]) -> list[ParamRow]:
    """The leaves of `variables`, arrays or abstract ones, each with the name of its axes."""
    return [
        ParamRow(path, tuple(leaf.shape), str(leaf.dtype), case.leaf(path).axes)
        for path, leaf in flatten(variables).items()
    ]


def sizes(case: Case) -> dict[str, int]:
    """The sizes of `case`, as documents have them."""
    return {
        "num_layers": case.num_layers,
        "features": case.features,
        "batch_size": case.batch_size,
    }


def terminal() -> Console:
    """The terminal, no wider than a reader follows."""
    console = Console(highlight=False)
    console.width = min(console.width, 110)
    return console


def print_title(console: Console, text: str) -> None:
    console.print(Text(text, style="bold"))


def print_line(console: Console, label: str, text: str) -> None:
    # Text, not markup: a path may hold square brackets, which rich would take for a style.
    console.print(Text.assemble((label, "bold cyan"), "  ", printable(text)), soft_wrap=True)


def print_params(
    console: Console, trees: Mapping[str, Sequence[ParamRow]], indent: int = 0
) -> None:
    """One row for each leaf; the trees side by side; what the axes mean at the end."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title in (*trees, "axes"):
        table.add_column(title, overflow="fold")
    for rows in zip(*trees.values(), strict=True):
        cells = [f"{row.path}\n{row.shape} {row.dtype}" for row in rows]
        table.add_row(*map(Text, cells), Text(" x ".join(rows[0].axes)))
    with console.capture() as captured:
        console.print(Padding(table, (0, 0, 0, indent)))
    for line in captured.get().splitlines():
        console.file.write(line.rstrip() + "\n")
