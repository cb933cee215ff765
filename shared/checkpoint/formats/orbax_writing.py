"""Writes an Orbax checkpoint as one flat directory, which all of Orbax's interfaces load.

That of version 0: arrays with headers of Zarr's version 2 in a database (OCDBT), of one process.
"""

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from shared.checkpoint.formats.orbax_index import Stretch, write_index
from shared.checkpoint.formats.orbax_metadata_files import write_metadata
from shared.checkpoint.formats.orbax_names import check_writable, chunks_of, name_of
from shared.checkpoint.formats.orbax_value_files import ValueFiles
from shared.checkpoint.formats.workers import Queue, with_workers, workers_for
from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaf, Leaves, OnDisk, Path, Read, Stored
from shared.errors import ComposedLiftsError, FileAccessError, InputError, printable

NOTHING: Mapping[Path, Stored] = {}


def write_orbax(
    target: str,
    leaves: Leaves,
    read: Read,
    there: Mapping[Path, Stored] = NOTHING,
    on_disk: OnDisk = lambda path, values: None,
) -> None:
    """Writes `leaves` to the directory `target`, which is not there yet.

    Args:
      target: a directory; the folder it is in is there.
      leaves: what is written.
      read: gives the numbers of a leaf, as one array or as an iterator of arrays that are its
        numbers in C's order. It is called once for each that is not empty, in their order, of a
        large checkpoint by several threads.
      there: the values of leaves that are in `target` already, and are not asked for.
      on_disk: is called, by any thread, with values that may be given as those when they are on the
        disk; nobody is told of the last ones.

    Raises:
      InputError: Orbax cannot hold a leaf; nothing has been written.
      FileAccessError: the system refuses to write.
    """
    check_writable(leaves)
    started = time.time_ns()
    with _writing(target):
        if not there:
            os.mkdir(target)
        os.makedirs(os.path.join(target, "d"), exist_ok=bool(there))
        full = {path: leaf for path, leaf in leaves.items() if leaf.kind != "empty"}
        rest = {path: leaf for path, leaf in full.items() if path not in there}
        values = [*there.values(), *_write_values(target, rest, read, on_disk)]
        items = (item for each in values for item in each.items())
        write_index(target, {key: v if isinstance(v, bytes) else Stretch(*v) for key, v in items})
        write_metadata(target, leaves, started)


def _write_values(target: str, leaves: Leaves, read: Read, on_disk: OnDisk) -> list[Stored]:
    """Writes the numbers of leaves, none of which is empty; the values that each thread made."""
    count = workers_for(sum(leaf.nbytes for leaf in leaves.values()))

    def write(queue: Queue[Path]) -> Stored:
        with ValueFiles(target, on_disk) as files:
            for path in queue:
                _write_array(files, path, leaves[path], read, queue.check)
                files.end_leaf(path)
        return files.values

    return with_workers(count, leaves, write)


def _write_array(
    files: ValueFiles, path: Path, leaf: Leaf, read: Read, check: Callable[[], None]
) -> None:
    chunks, name = chunks_of(leaf), name_of(path)
    header = _header(leaf, chunks)
    files.put(f"{name}/.zarray", len(header), iter([memoryview(header)]))
    with contextlib.closing(_Numbers(path, leaf, read(path), check)) as numbers:
        _write_chunks(files, name, leaf, chunks, numbers)


def _write_chunks(
    files: ValueFiles, name: str, leaf: Leaf, chunks: tuple[int, ...], numbers: "_Numbers"
) -> None:
    counts = [-(-n // k) for n, k in zip(leaf.shape, chunks, strict=True)]
    length = math.prod(chunks) * leaf.dtype.itemsize
    for index in np.ndindex(*counts):
        inside = [min(k, n - i * k) for i, n, k in zip(index, leaf.shape, chunks, strict=True)]
        size = math.prod(inside) * leaf.dtype.itemsize
        place = ".".join(map(str, index)) or "0"
        # The last chunk is as long as the others.
        rest = memoryview(bytes(length - size))
        files.put(f"{name}/{place}", length, itertools.chain(numbers.take(size), [rest]))
    numbers.end()


class _Numbers:
    """The numbers of a leaf as bytes, whether they come as one array or in parts."""

    def __init__(
        self,
        path: Path,
        leaf: Leaf,
        found: np.ndarray | Iterable[np.ndarray],
        check: Callable[[], None],
    ):
        """`check` is called before each part, and raises if there is to be no other one."""
        self._path, self._leaf, self._check_stopped = path, leaf, check
        if isinstance(found, np.ndarray):
            self._check(found.shape == leaf.shape, found.shape)
            found = [found]
        self._parts, self._rest = iter(found), memoryview(b"")

    def take(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes, in pieces."""
        while count:
            if not len(self._rest):
                self._rest = self._next()
            piece = self._rest[:count]
            # Not an empty piece of it, which would keep all of it in memory.
            self._rest = self._rest[count:] if count < len(self._rest) else memoryview(b"")
            count -= len(piece)
            yield piece

    def _next(self) -> memoryview:
        self._check_stopped()
        for part in self._parts:
            self._check(part.dtype == self._leaf.dtype, part.dtype)
            return np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        raise self._unlike("fewer numbers")

    def close(self) -> None:
        """Lets go of what is held for the rest of the parts."""
        if isinstance(self._parts, Generator):
            self._parts.close()

    def end(self) -> None:
        """Checks that there are no more."""
        self._check(not len(self._rest) and next(self._parts, None) is None, "more numbers")

    def _check(self, is_so: bool, received: Any) -> None:
        if not is_so:
            raise self._unlike(received)

    def _unlike(self, received: Any) -> InputError:
        return InputError(
            f"leaf {printable(written(self._path))}: expected {self._leaf.dtype} "
            f"{self._leaf.shape}, received {received}"
        )


def _header(leaf: Leaf, chunks: tuple[int, ...]) -> bytes:
    is_numpys = leaf.dtype.num < 256  # the others are those of ml_dtypes
    return json.dumps(
        {
            "chunks": chunks,
            "compressor": None,
            "dimension_separator": ".",
            "dtype": leaf.dtype.newbyteorder("<").str if is_numpys else leaf.dtype.name,
            "fill_value": None,
            "filters": None,
            "order": "C",
            "shape": leaf.shape,
            "zarr_format": 2,
        },
        separators=(",", ":"),
    ).encode()


@contextlib.contextmanager
def _writing(target: str) -> Iterator[None]:
    try:
        yield
    except (ComposedLiftsError, MemoryError):
        raise
    except OSError as error:
        raise FileAccessError(
            f"{printable(target)}: a checkpoint cannot be written: {error.strerror or error}; "
            f"choose a writable folder with free space"
        ) from error
