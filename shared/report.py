"""What a command found out, and its faces: terminal and JSON."""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from shared.batch import Batch
from shared.cases import Case
from shared.errors import printable
from shared.picture import sparklines
from shared.trees import flatten

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class ParamRow:
    """One leaf of a tree of params."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[str, ...]


def params_rows(case: Case, variables: Mapping[str, Any]) -> list[ParamRow]:
    """The leaves of `variables`, arrays or abstract ones, each with the name of its axes."""
    axes = {leaf.name: case.leaf_axes(leaf) for leaf in case.leaves}
    return [
        ParamRow(path, tuple(leaf.shape), str(leaf.dtype), axes[path.rsplit("/", 1)[-1]])
        for path, leaf in flatten(variables).items()
    ]


@dataclasses.dataclass(frozen=True)
class ForwardReport:
    """One forward pass: what went in, what it went through, what came out.

    Attributes:
      activation: (B, F).
    """

    impl: str
    case: Case
    seed: int
    init: str
    batch: Batch
    params: list[ParamRow]
    activation: np.ndarray

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "forward",
            "impl": self.impl,
            "case": self.case.name,
            "seed": self.seed,
            **_sizes(self.case),
            "init": self.init,
            "activation": [_number(value) for value in self.activation.reshape(-1).tolist()],
            "shape": list(self.activation.shape),
            "params": [
                {"path": row.path, "shape": list(row.shape), "dtype": row.dtype}
                for row in self.params
            ],
            "versions": versions(),
        }

    def print_text(self, written_to: str | None = None) -> None:
        console = _console()
        case = self.case
        count = f"{case.batch_size} examples, {case.num_layers} layers"
        if case.params_of:
            count += f" (init fails, params of {case.params_of!r})"
        _title(console, f"{self.impl}  case {case.name}  seed {self.seed}  init {self.init}")
        _line(console, "in ", f"x {self.batch.x.shape} {self.batch.x.dtype}  {self.batch.source}")
        _picture(console, self.batch.x, self.batch.feature_names)
        _line(console, "via", f"{case.lifts}: {count}, each layer relu(x @ kernel + bias)")
        _print_params(console, {"params": self.params}, indent=5)
        digest = hashlib.sha256(self.activation.tobytes()).hexdigest()[:16]
        _line(
            console,
            "out",
            f"activation {self.activation.shape} {self.activation.dtype}  sha256 {digest}",
        )
        _picture(console, self.activation)
        if self.activation.size and not self.activation.any():
            _line(
                console, "   ", "every value is 0: relu has cut off every unit; try another --seed"
            )
        if written_to:
            _line(console, "   ", f"written to {written_to}")


@dataclasses.dataclass(frozen=True)
class LayoutReport:
    """The parameter trees of a case in both implementations; why init fails, where it does."""

    case: Case
    linen: list[ParamRow]
    nnx: list[ParamRow]
    init_errors: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "layout",
            "case": self.case.name,
            **_sizes(self.case),
            "linen": [dataclasses.asdict(row) for row in self.linen],
            "nnx": [dataclasses.asdict(row) for row in self.nnx],
            "init_errors": self.init_errors,
            "versions": versions(),
        }

    def print_text(self) -> None:
        console = _console()
        _title(console, f"case {self.case.name}  {self.case.lifts}")
        console.print(Text(self.case.lesson))
        _print_params(console, {"linen": self.linen, "nnx": self.nnx})
        for impl, error in self.init_errors.items():
            _line(console, impl, f"init fails: {error}")
        if self.case.params_of:
            console.print(Text(f"The params shown are those of {self.case.params_of!r}."))


def versions() -> dict[str, str]:
    """The versions and the platform that the numbers were made with."""
    names = ("composed-lifts", "jax", "jaxlib", "flax", "numpy")
    found = {name.replace("-", "_"): metadata.version(name) for name in names}
    return found | {"python": sys.version.split()[0], "platform": jax.default_backend()}


def print_json(document: Mapping[str, Any]) -> None:
    """One document on stdout."""
    print(json.dumps(document, allow_nan=False))


def _sizes(case: Case) -> dict[str, int]:
    return {
        "num_layers": case.num_layers,
        "features": case.features,
        "batch_size": case.batch_size,
    }


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity: those are text."""
    return value if math.isfinite(value) else str(value)


def _console() -> Console:
    console = Console(highlight=False)
    console.width = min(console.width, 110)
    return console


def _title(console: Console, text: str) -> None:
    console.print(Text(text, style="bold"))


def _line(console: Console, label: str, text: str) -> None:
    # Text, not markup: a path may hold square brackets, which rich would take for a style.
    console.print(Text.assemble((label, "bold cyan"), "  ", printable(text)), soft_wrap=True)


def _picture(console: Console, values: np.ndarray, names: Sequence[str] | None = None) -> None:
    for text in sparklines(values, names, width=console.width - 5, encoding=console.encoding):
        console.print(Text("     " + text), soft_wrap=True)


def _print_params(
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


def measured(number: float | None) -> str:
    """A measured number in short; nothing where none was measured."""
    return "" if number is None else f"{number:.3g}"
