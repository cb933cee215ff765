"""The files of values of an Orbax checkpoint while they are written."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from shared.checkpoint.formats.orbax_index import Stretch, new_file

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

    def __init__(self, directory: str):
        """`directory` is there, with another one in it, d."""
        self.values: dict[str, bytes | Stretch] = {}
        self._directory = directory
        self._name, self._size, self._file = "", 0, -1
        self._syncing = ThreadPoolExecutor(1)
        self._synced: Future[None] | None = None

    def __enter__(self) -> "ValueFiles":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        try:
            if error is None:
                self._end_file()
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
            self.values[key] = b"".join(pieces)
            return
        if self._file < 0:
            self._name, self._size = new_file(), 0
            path = os.path.join(self._directory, self._name)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self.values[key] = Stretch(self._name, self._size, length)
        for piece in pieces:
            while len(piece):
                count = os.write(self._file, piece[:WRITE])
                piece, self._size = piece[count:], self._size + count
        if self._size >= FILE:
            self._end_file()

    def _end_file(self) -> None:
        """Has it brought to the disk, and waits for the one before: no more than two are not."""
        self._wait()
        if self._file >= 0:
            file, self._file = self._file, -1
            self._synced = self._syncing.submit(_sync_and_close, file)

    def _wait(self) -> None:
        if self._synced is not None:
            self._synced.result()


def _sync_and_close(file: int) -> None:
    try:
        os.fsync(file)
    finally:
        os.close(file)
