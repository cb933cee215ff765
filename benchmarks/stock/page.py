"""The page: what was compared with what, the table, what to act on."""

import inspect
from collections.abc import Iterator, Mapping, Sequence

import flax
import jax

from benchmarks.stock import answer, remedies, table
from benchmarks.stock.answer import FIGURE, Answer
from benchmarks.stock.row import Row
from benchmarks.stock.words import folded, groups
from shared.report.result import Divergence, Spot

DTYPES = ("float32", "bfloat16", "float16")
COMMAND = "python -m benchmarks.stock_layers"

# {dtype: {question: answer}} of a row.
Answered = Mapping[str, Mapping[str, Answer]]

HEAD = f"""---
file_format: mystnb
kernelspec:
  name: python3
html_theme.sidebar_secondary.remove: true
---

# Every layer of Linen beside that of NNX

`{COMMAND}` printed this page, with Flax {{flax}} and JAX {{jax}}, on the
{{backend}}. Each row is a pair that `verify` has compared. Layers compute in float32, bfloat16 and
float16 on inputs of that dtype; their weights are float32, all else is as it is by default. Where
the answer depends on the dtype, the cell says how.

| column | asks |
|---|---|
| weights | whether each weight has its own on the other side, or several are parts of one |
| forward | whether the call returns the same, on the same weights |
| gradients | by weights and inputs |
| state after the call | statistics, caches, what is sown; in training, if that is another call |
| training mode | outputs and gradients with dropout on, statistics of the batch |
| initial values | whether weights start alike: constants, and distributions |
| decode | one token against a cache: output, cache, and how it starts |

`identical`: the same operations on the same values. `equal`: bitwise, on random numbers. `close`:
up to rounding, and how far two numbers are apart at most. `-`: the question does not arise.
"""

# What the remedies need, so that their block is executed as it stands.
IMPORTS = """\
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx"""

# {kind: (what it is, what to do about it)}
ADVICE = {
    answer.ALONE: (
        "A weight has no counterpart",
        "What a checkpoint of Linen holds there is lost.",
    ),
    answer.UNTRAINED: (
        "What Linen trains is no param of NNX",
        "An optimizer of `nnx.Param` leaves it as it is.",
    ),
    answer.STORED: (
        "Weights are stored in another dtype",
        "So are their gradients. Convert them where a checkpoint is loaded.",
    ),
    answer.OVERWRITTEN: (
        "The call changes weights",
        "In Linen they stay as they were trained. What an optimizer changes next, and what is "
        "saved, is what the call has left.",
    ),
    answer.COMPUTED: ("The result is another one", "No rounding explains that."),
    answer.ROUNDED: (
        "In half precision NNX rounds what Linen does not",
        "Below is how to leave that out.",
    ),
    answer.STARTED: (
        "Weights start otherwise",
        "Weights that are loaded do not show it, a training from scratch does.",
    ),
    answer.RAISED: ("It does not run", "Give the dtype where it can be given."),
}


def page(answered: Mapping[Row, Answered], remedied: Mapping[Row, Answered]) -> Iterator[str]:
    """The lines of the page.

    Args:
      answered: what is known of each row of the table; remedied: the same of the remedies.
    """
    yield HEAD.format(
        flax=flax.__version__, jax=jax.__version__, backend=jax.default_backend().upper()
    )
    columns = ("layer", *answer.QUESTIONS)
    yield from _table(columns, (_cells(row, each) for row, each in answered.items()))
    yield "\n## What to act on\n"
    yield from _differences(answered)
    yield from _cannot_run(answered)
    for words in table.other_defaults():
        yield f"- Another default: {words}."
    only_linen, only_nnx = table.in_one()
    yield f"- Only Linen has {_listed(only_linen)}."
    yield f"- Only NNX has {_listed(only_nnx)}."
    for name, why in table.LEFT_OUT.items():
        yield f"- `{name}` has no row: {why}."
    yield "\n## What makes them the same\n"
    yield "These are built in NNX with what is below the table, and called as above.\n"
    columns = ("layer", *(each for each in answer.QUESTIONS if each != answer.DECODE))
    yield from _table(columns, (_cells(row, each)[:-1] for row, each in remedied.items()))
    yield "\n```{code-cell} ipython3"
    yield f"{IMPORTS}\n\n"
    yield "\n\n".join(inspect.getsource(each) for each in remedies.SHOWN).rstrip()
    yield "```"


def _cells(row: Row, answered: Answered) -> list[str]:
    found = [
        folded({dtype: each.get(question) for dtype, each in answered.items()})
        for question in answer.QUESTIONS
    ]
    return [row.name, *found]


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def _differences(answered: Mapping[Row, Answered]) -> Iterator[str]:
    """A line for each kind of difference: what it means, then where it is, and where written."""
    for kind, (what, meaning) in ADVICE.items():
        found: dict[str, list[str]] = {}
        for row, each in answered.items():
            for words in _told(kind, each):
                found.setdefault(words, []).append(row.name)
        if found:
            yield f"- {what}. {meaning}"
            for words, rows in found.items():
                yield f"  - {_bold(rows)}: {words}"


def _told(kind: str, answered: Answered) -> list[str]:
    """What is said of one kind of difference in a row."""
    said = []
    for question in answer.QUESTIONS:
        for _, each in groups({dtype: own.get(question) for dtype, own in answered.items()}):
            if each and each.kind == kind:
                words = each.words.removeprefix(f"differs by {FIGURE}").removeprefix(": ")
                said.append(f"{words or 'differs'}{_lines(each.place)}")
    return list(dict.fromkeys(said))


def _lines(place: Divergence | None) -> str:
    """The lines of Flax that part, as far as they are Flax's."""
    spots = [place.linen, place.nnx] if place else []
    said = [words for spot in spots if spot and (words := _line(spot))]
    return f" ({' against '.join(said)})" if said else ""


def _line(spot: Spot) -> str:
    _, found, path = spot.file.rpartition("/flax/")
    return f"`{path}:{spot.line}: {spot.source}`" if found else ""


def _cannot_run(answered: Mapping[Row, Answered]) -> Iterator[str]:
    """What XLA cannot run on this backend, and was computed operation by operation instead."""
    found: dict[str, list[str]] = {}
    for row, each in answered.items():
        for dtype, answers in each.items():
            forward = answers.get(answer.FORWARD)
            if forward and forward.cannot_run:
                found.setdefault(f"{forward.cannot_run} ({dtype})", []).append(row.name)
    for words, rows in found.items():
        yield f"- XLA does not run it here. It was computed operation by operation: {words}"
        yield f"  - {_bold(rows)}"


def _bold(names: Sequence[str]) -> str:
    return ", ".join(f"**{name}**" for name in names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
