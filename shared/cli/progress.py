"""What a command is doing, on stderr, where a person is looking."""

import contextlib
import sys
from collections.abc import Callable, Iterator


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
