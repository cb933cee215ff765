"""One array into a file, atomically."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
from numpy.lib import format as npy

from shared.errors import FileAccessError, UsageError

WRITABLE = (".npy", ".csv")


class Writer:
    """Writes one array to a file, wholly or not at all.

    What would stop the writing stops the making of the writer, before anything is computed.
    """

    def __init__(
        self,
        path: str,
        source: str | None = None,
        writable: tuple[str, ...] = WRITABLE,
        flag: str = "--output",
    ):
        """`source` is what the array is computed from; it may not be the same file.

        Raises:
          UsageError: the name ends in no format that can be written, or is that of `source`.
          FileAccessError: the place cannot be written to.
        """
        self.path = os.path.realpath(path)
        self.shown, self.flag = path, flag
        self.suffix = os.path.splitext(path)[1].lower()
        if self.suffix not in writable:
            raise UsageError(
                f"{flag}={path}: expected a name ending in {' or '.join(writable)}, "
                f"received {self.suffix!r}"
            )
        if source and os.path.realpath(source.split(".npz:")[0]) == self.path:
            raise UsageError(f"{flag}={path} is the --input itself; choose another name")
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise FileAccessError(f"{flag}={path}: is not a regular file; choose another name")
        with self._temporary():
            pass

    def write(self, values: np.ndarray) -> None:
        """Writes `values`, (B, F). On failure the file is as it was."""
        if self.suffix == ".csv":
            self.write_text(_csv_text(values))
        else:
            self._replace(lambda file: npy.write_array(file, values, allow_pickle=False))

    def write_text(self, text: str) -> None:
        """Writes `text` in UTF-8. On failure the file is as it was."""
        self.write_bytes(text.encode())

    def write_bytes(self, content: bytes) -> None:
        """Writes `content` as it is. On failure the file is as it was."""
        self._replace(lambda file: file.write(content))

    def _replace(self, write: Callable[[IO[bytes]], object]) -> None:
        with self._temporary() as (file, name):
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(name, self.path)

    def _mode(self) -> int:
        """The permissions of the file that is there, or those that a new one would get."""
        if os.path.exists(self.path):
            return os.stat(self.path).st_mode & 0o777
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[IO[bytes], str]]:
        """A new file and its name, beside the target, gone at the end unless it was moved away."""
        try:
            prefix = f".{os.path.basename(self.path)}."
            descriptor, name = tempfile.mkstemp(".tmp", prefix, os.path.dirname(self.path))
            try:
                with open(descriptor, "wb") as file:
                    os.fchmod(descriptor, self._mode())
                    yield file, name
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        except OSError as error:
            raise FileAccessError(
                f"{self.flag}={self.shown}: cannot be written: {error.strerror or error}; choose a "
                f"writable folder with free space"
            ) from error


def _csv_text(values: np.ndarray) -> str:
    """A header and rows. Each number is the shortest text that reads back as the same float."""
    lines = [",".join(f"feature_{i}" for i in range(values.shape[1]))]
    lines += [",".join(str(number) for number in row) for row in values]
    return "\n".join(lines) + "\n"
