"""The files of values of an Orbax checkpoint while they are written."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from shared.checkpoint.formats.orbax_index import Stretch, new_file
from shared.checkpoint.stored import OnDisk, Path, Stored

# What is no longer than this is in the index itself, as Orbax has it.
INLINE = 1024
# How much is written in one call. For calls of 16 MiB, Linux looks for memory in one piece, and may
# take ten times as long.
WRITE = 2**17
# A file of so many bytes is followed by another one, during which it gets to the disk.
FILE = 2**28


class ValueFiles:
    """Writes values to one file after another; at the end of the block all are on the disk.

    Attributes:
      values: {key: its content, or the place of it}, of what has been written.
    """

    def __init__(self, directory: str, on_disk: OnDisk):
        """`directory` is there, with another one in it, d.

        `on_disk` is called, by another thread, with each leaf whose values are all in files that
        are full and on the disk.
        """
        self.values: dict[str, bytes | Stretch] = {}
        # Of the leaf that is written, and of those that no file is full of yet.
        self._of_leaf: dict[str, bytes | Stretch] = {}
        self._not_on_disk: dict[Path, Stored] = {}
        self._on_disk = on_disk
        self._directory = directory
        self._name, self._size, self._file = "", 0, -1
        self._syncing = ThreadPoolExecutor(1)
        self._synced: Future[None] | None = None

    def __enter__(self) -> "ValueFiles":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        try:
            if error is None:
                self._end_file(is_told=False)
                self._wait()
            elif self._file >= 0:
                os.close(self._file)
        finally:
            self._syncing.shutdown()

    def put(self, key: str, length: int, pieces: Iterator[memoryview]) -> None:
        """Writes a value of `length` bytes, which come in pieces.

        Raises:
          OSError: the system refuses, also what was written before.
        """
        if length <= INLINE:
            self._of_leaf[key] = b"".join(pieces)
            return
        if self._size >= FILE:
            self._end_file(is_told=True)
        if self._file < 0:
            self._name, self._size = new_file(), 0
            path = os.path.join(self._directory, self._name)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._of_leaf[key] = Stretch(self._name, self._size, length)
        for piece in pieces:
            while len(piece):
                count = os.write(self._file, piece[:WRITE])
                piece, self._size = piece[count:], self._size + count

    def end_leaf(self, path: Path) -> None:
        """After the last value of a leaf.

        Raises:
          OSError: the system refuses what was written before.
        """
        self.values |= self._of_leaf
        self._not_on_disk[path], self._of_leaf = self._of_leaf, {}
        if self._size >= FILE:
            self._end_file(is_told=True)

    def _end_file(self, is_told: bool) -> None:
        """Has it brought to the disk, and waits for the one before: no more than two are not."""
        self._wait()
        leaves, self._not_on_disk = self._not_on_disk, {}
        if self._file >= 0:
            file, self._file, self._size = self._file, -1, 0
            told = leaves if is_told else {}
            self._synced = self._syncing.submit(self._sync_and_close, file, told)

    def _wait(self) -> None:
        if self._synced is not None:
            self._synced.result()

    def _sync_and_close(self, file: int, leaves: Mapping[Path, Stored]) -> None:
        try:
            os.fsync(file)
        finally:
            os.close(file)
        for path, values in leaves.items():
            self._on_disk(path, values)
