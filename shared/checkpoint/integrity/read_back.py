"""What was written is read back from where it was written, and compared with what was made."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from shared.checkpoint.formats.table import IN_PARTS, open_checkpoint
from shared.checkpoint.formats.workers import Queue, with_workers, workers_for
from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.integrity.verified import (
    problem_of_parts,
    problems_of_header,
    rows_of,
    stop_at,
)
from shared.checkpoint.naming import written
from shared.checkpoint.stored import Parts, Path
from shared.errors import CorruptFileError, InputError


def read_back(
    manifest: Manifest, location: str, source: str, progress: Callable[[int, str], object]
) -> None:
    """Stops where a leaf has another SHA-256 than its manifest says.

    Args:
      manifest: of what was made.
      location: where it was written.
      source: what it was made of, for messages.
      progress: is told how many bytes are read, and which leaf is next, by one thread at a time.

    Raises:
      CorruptFileError: what is read is not what was made.
      FileAccessError: the system refuses to read it.
    """
    with _of(source):
        reader = open_checkpoint(location)
        stop_at(list(problems_of_header(manifest, reader)), reader.path)
        rows = rows_of(manifest, reader)
        full = {path: row for path, row in rows.items() if manifest.leaves[row].kind != "empty"}
        done, one_by_one = 0, threading.Lock()

        def read(queue: Queue[Path]) -> None:
            nonlocal done
            for path in queue:
                row = full[path]
                with one_by_one:
                    progress(done, written(row))
                problem = problem_of_parts(manifest, row, _until(queue, reader.parts(path)))
                stop_at([problem] if problem else [], reader.path)
                with one_by_one:
                    done += manifest.leaves[row].nbytes

        nbytes = sum(manifest.leaves[row].nbytes for row in full.values())
        with_workers(workers_for(nbytes) if reader.format in IN_PARTS else 1, full, read)


def _until(queue: Queue[Path], parts: Parts) -> Parts:
    """The parts, until another thread fails."""
    for part in parts:
        queue.check()
        yield part


@contextlib.contextmanager
def _of(source: str) -> Iterator[None]:
    try:
        yield
    except (CorruptFileError, InputError) as error:
        raise CorruptFileError(
            f"what was made of {source} reads back otherwise than it was written, and is not kept: "
            f"{error}; check the disk of the target"
        ) from error
