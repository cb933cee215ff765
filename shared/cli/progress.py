"""What a command is doing, on stderr, where a person is looking."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.report.trained import Trained

# Of the path of a leaf.
_LONGEST_SHOWN = 40


@contextlib.contextmanager
def progress_bar(name: str, num_steps: int) -> Iterator[Callable[[str], None]]:
    """A bar of `num_steps`: a function that is told the name of each."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    hidden = not sys.stderr.isatty()
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=hidden
    ) as progress:
        task = progress.add_task(name, total=num_steps)

        def step(what: str) -> None:
            progress.update(task, description=f"{name}: {what}")
            progress.advance(task)

        yield step


@contextlib.contextmanager
def training_bar(num_steps: int, shown: bool = True) -> Iterator[Callable[[int, "Trained"], None]]:
    """A bar of `num_steps` with the loss, characters a second and the time that is left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not (shown and sys.stderr.isatty()),
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        task = progress.add_task("train", total=num_steps)

        def step(number: int, run: "Trained") -> None:
            speed = len(run.losses) * run.tokens_per_step / run.seconds
            described = f"loss {run.losses[number]:.4f}  {speed:,.0f} characters/s"
            progress.update(task, completed=number, description=described)

        yield step


@contextlib.contextmanager
def bytes_bar(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar of bytes with the time that is left.

    It is told how many bytes are done of how many, and what is being done.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task(name, total=None)

        def step(done: int, total: int, what: str) -> None:
            described = f"{name}: {escape(what[:_LONGEST_SHOWN])}"
            progress.update(task, completed=done, total=total, description=described)

        yield step
