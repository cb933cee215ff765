"""One forward pass: what went in, what it went through, what came out."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from shared.batch import Batch
from shared.cases import Case
from shared.report.document import SCHEMA_VERSION, versions
from shared.report.params import ParamRow, print_line, print_params, print_title, sizes, terminal
from shared.report.sparklines import sparklines


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
            **sizes(self.case),
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
        console = terminal()
        case = self.case
        count = f"{case.batch_size} examples, {case.num_layers} layers"
        if case.params_of:
            count += f" (init fails, params of {case.params_of!r})"
        print_title(console, f"{self.impl}  case {case.name}  seed {self.seed}  init {self.init}")
        print_line(
            console,
            "in ",
            f"{case.inputs[0].name} {self.batch.x.shape} {self.batch.x.dtype}  {self.batch.source}",
        )
        _picture(console, self.batch.x, self.batch.feature_names)
        print_line(console, "via", f"{case.lifts}: {count}, each layer {case.layer}")
        print_params(console, {"params": self.params}, indent=5)
        digest = hashlib.sha256(self.activation.tobytes()).hexdigest()[:16]
        print_line(
            console,
            "out",
            f"activation {self.activation.shape} {self.activation.dtype}  sha256 {digest}",
        )
        _picture(console, self.activation)
        if self.activation.size and not self.activation.any():
            print_line(
                console, "   ", "every value is 0: relu has cut off every unit; try another --seed"
            )
        if written_to:
            print_line(console, "   ", f"written to {written_to}")


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity: those are text."""
    return value if math.isfinite(value) else str(value)


def _picture(console: Console, values: np.ndarray, names: Sequence[str] | None = None) -> None:
    """A line of numbers each for the last axis; tokens are one number each."""
    values = values[:, None] if values.ndim == 1 else values.reshape(-1, values.shape[-1])
    for text in sparklines(values, names, width=console.width - 5, encoding=console.encoding):
        console.print(Text("     " + text), soft_wrap=True)
