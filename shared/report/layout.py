"""The parameter trees of both implementations, side by side."""

import dataclasses
from typing import Any

from rich.text import Text

from shared.cases import Case
from shared.report.document import SCHEMA_VERSION, versions
from shared.report.params import ParamRow, print_line, print_params, print_title, sizes, terminal


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
            **sizes(self.case),
            "linen": [dataclasses.asdict(row) for row in self.linen],
            "nnx": [dataclasses.asdict(row) for row in self.nnx],
            "init_errors": self.init_errors,
            "versions": versions(),
        }

    def print_text(self) -> None:
        console = terminal()
        print_title(console, f"case {self.case.name}  {self.case.lifts}")
        console.print(Text(self.case.lesson))
        print_params(console, {"linen": self.linen, "nnx": self.nnx})
        for impl, error in self.init_errors.items():
            print_line(console, impl, f"init fails: {error}")
        if self.case.params_of:
            console.print(Text(f"The params shown are those of {self.case.params_of!r}."))
