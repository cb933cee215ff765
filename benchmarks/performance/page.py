"""`docs/performance.md`, of what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.performance.reasons import reason_of
from benchmarks.performance.targets import Target, targets
from shared.report.measured import Table
from shared.report.quantities import cell, quantity_of

INTRO = """\
# Performance

What a model costs in NNX, beside the same in Linen and in plain JAX; and which way to call an NNX
module costs least. This page is written by a command, and no figure of it by hand:

```text
python -m benchmarks.performance
```

For a pair of your own, `composed-lifts bench --pair=port.py:PAIR --report=out.html` makes the first
two tables. With more than one device the examples are spread over all of them, which
`JAX_NUM_CPU_DEVICES=8 composed-lifts bench` shows without an accelerator.

Times were measured in turns, in one process: what counts are ratios, each the median over the
rounds, and in brackets its tenth and ninetieth percentile. Where two columns are one program, their
ratio is what the machine adds of its own.
"""

# {section: its title and what it is about}, in the order of the page.
SECTIONS = {
    "exercise": (
        "Which form of the call",
        "The same module, called in eight ways (`shared/models/forms.py`). Where a model serves, "
        "what costs least is to split it once and to give `jax.jit` a tuple of its leaves:\n\n"
        "```{literalinclude} ../shared/models/forms.py\n:pyobject: split_leaves\n```",
    ),
    "targets": ("What is reached", ""),
    "steps": (
        "A step",
        "The exercise, N layers of `relu(x @ kernel + bias)` over a batch, beside other frameworks "
        "and beside the products of matrices that it cannot do without.",
    ),
    "training": (
        "A step of training",
        "That of `composed-lifts train`: dropout, AdamW, the state donated. Linen has a "
        "`TrainState`, NNX a module with an `nnx.Optimizer`, each given to `jax.jit` as it is; "
        "plain JAX has a tuple (`shared/bench/pure_training.py`).",
    ),
    "dispatch": ("The host", "What Python does before XLA runs."),
    "memory": ("Making the weights", ""),
    "growth": ("Growth", "What it takes to make a program ready, against the sizes of a model."),
    "processes": ("The first result", ""),
    "structure": (
        "A large model, verified",
        "`verify` compares programs of shapes: no weight is made.",
    ),
    "programs": ("One program", "Of every case, what XLA makes of NNX and of plain JAX."),
}
# A table of more rows than this is folded.
LONG = 16


def tables_of(found: Mapping[str, Any]) -> dict[str, list[Table]]:
    """{section: its tables}, of the plain data that `python -m benchmarks.performance` keeps."""
    return {
        section: [
            Table(data["title"], tuple(map(quantity_of, data["rows"])), tuple(data["notes"]))
            for data in found[section]
        ]
        for section in SECTIONS
        if section in found
    }


def page(found: Mapping[str, Any], tables: Mapping[str, Sequence[Table]]) -> str:
    """The page: `tables` of all sections, and of `found` the machine and the versions."""
    parts = [INTRO, _made_on(found), "![Times by size](_static/performance.svg)\n"]
    for section, (title, about) in SECTIONS.items():
        parts += [f"## {title}\n", *([f"{about}\n"] if about else [])]
        if section == "targets":
            parts += _targets(targets(tables))
        else:
            parts += [text for table in tables[section] for text in _table(table)]
    return "\n".join(parts)


def _made_on(found: Mapping[str, Any]) -> str:
    machine, versions = found["machine"], found["versions"]
    names = ("jax", "flax", "numpy", "python")
    return (
        f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['memory']}, "
        f"{machine['devices']}; " + ", ".join(f"{name} {versions[name]}" for name in names) + ".\n"
    )


def _targets(found: Sequence[Target]) -> Iterator[str]:
    rows = [(each.quantity, each.reach, each.measured, each.verdict) for each in found]
    yield _markdown(("quantity", "reach", "measured", "reached"), rows)
    missed: dict[str, list[str]] = {}
    for each in found:
        if each.verdict == "no":
            missed.setdefault(reason_of(each.quantity), []).append(each.quantity)
    for reason, quantities in missed.items():
        yield f"- Not reached: {'; '.join(quantities)}: {reason}"
    yield ""


def _table(table: Table) -> Iterator[str]:
    """A table, what is wider than long turned around, and its notes."""
    columns = list(dict.fromkeys(column for row in table.rows for column in row.values))
    if len(columns) > max(4, len(table.rows)):
        titles = ["", *(row.name for row in table.rows)]
        rows = [(column, *(cell(row, column) for row in table.rows)) for column in columns]
    else:
        titles = ["", *columns]
        rows = [(row.name, *(cell(row, column) for column in columns)) for row in table.rows]
    notes = "".join(f"- {note}\n" for note in table.notes)
    body = [_markdown(titles, rows), *([notes] if notes else [])]
    if len(rows) > LONG:
        yield f"<details><summary>{table.title}</summary>\n"
        yield from body
        yield "</details>\n"
    else:
        yield f"**{table.title}**\n"
        yield from body


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
