"""What was written is read back from where it was written, and compared with what was made."""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from shared.checkpoint.formats.table import IN_PARTS, open_checkpoint
from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.integrity.verified import (
    problem_of_parts,
    problems_of_header,
    rows_of,
    stop_at,
)
from shared.checkpoint.naming import written
from shared.errors import CorruptFileError, InputError

# How many leaves are read at once where no more than a part of each is held.
AT_ONCE = min(4, os.cpu_count() or 1)


def read_back(
    manifest: Manifest, location: str, source: str, progress: Callable[[int, str], object]
) -> None:
    """Stops where a leaf has another SHA-256 than its manifest says.

    Args:
      manifest: of what was made.
      location: where it was written.
      source: what it was made of, for messages.
      progress: is told how many bytes are read, and which leaf is next.

    Raises:
      CorruptFileError: what is read is not what was made.
      FileAccessError: the system refuses to read it.
    """
    with _of(source):
        reader = open_checkpoint(location)
        stop_at(list(problems_of_header(manifest, reader)), reader.path)
        rows = rows_of(manifest, reader)
        full = {path: row for path, row in rows.items() if manifest.leaves[row].kind != "empty"}
        done = 0
        with ThreadPoolExecutor(AT_ONCE if reader.format in IN_PARTS else 1) as threads:
            try:
                problems = threads.map(
                    lambda path: problem_of_parts(manifest, full[path], reader.parts(path)), full
                )
                for row, problem in zip(full.values(), problems, strict=True):
                    progress(done, written(row))
                    done += manifest.leaves[row].nbytes
                    stop_at([problem] if problem else [], reader.path)
            finally:
                threads.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _of(source: str) -> Iterator[None]:
    try:
        yield
    except (CorruptFileError, InputError) as error:
        raise CorruptFileError(
            f"what was made of {source} reads back otherwise than it was written, and is not kept: "
            f"{error}; check the disk of the target"
        ) from error
