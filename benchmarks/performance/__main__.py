"""`python -m benchmarks.performance`: measures what `docs/performance.md` says, and writes it.

What is measured is kept in `docs/performance.json`. With --only the other sections stay as they
are; with none (--only=) the page is written anew from the file. It takes some minutes, on a machine
that does nothing else.
"""

import argparse
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.performance.page import page, tables_of
from benchmarks.performance.plot import plot
from shared.report.document import versions
from shared.report.machine import machine
from shared.report.quantities import quantity_json

# In the order of the page. Each is a module of this folder with measure() -> list[Table].
SECTIONS = (
    "exercise",
    "steps",
    "training",
    "dispatch",
    "memory",
    "growth",
    "processes",
    "structure",
    "programs",
)
DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance", description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    chosen = [name for name in parser.parse_args().only.split(",") if name]
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: choose of {', '.join(SECTIONS)}")
    path = DOCS / "performance.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name in chosen:
        print(f"{name} ...", flush=True)
        tables = importlib.import_module(f"benchmarks.performance.{name}").measure()
        found[name] = [
            {
                "title": table.title,
                "rows": [quantity_json(row) for row in table.rows],
                "notes": list(table.notes),
            }
            for table in tables
        ]
        found |= {"machine": machine(), "versions": versions()}
        path.write_text(json.dumps(found, indent=1) + "\n")
    missing = [name for name in SECTIONS if name not in found]
    if missing:
        print(f"{path.name} has no {', '.join(missing)} yet: the page is not written")
    else:
        write_page(found, DOCS)


def write_page(found: Mapping[str, Any], docs: Path) -> None:
    """Writes the page and its picture into the folder `docs`."""
    tables = tables_of(found)
    (docs / "performance.md").write_text(page(found, tables))
    (docs / "_static" / "performance.svg").write_bytes(plot(tables))


if __name__ == "__main__":
    main()
