"""The numbers of a stored value one after another, decompressed as they are asked for."""

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

from shared.checkpoint.formats.orbax_values import Value, unreadable
from shared.errors import CorruptFileError, printable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# How much is read from a file, and decompressed, in one call: what a core's caches hold.
_READ, _DECODED = 2**18, 2**20


def is_streamed(codec: str) -> bool:
    """Whether a codec can be read in parts."""
    return codec in ("raw", "zstd")


class Stream:
    """The bytes of one value in order. It is to be closed."""

    def __init__(self, leaf: str, value: Value, codec: str):
        """`leaf` is where it is, for messages; the codec is one that is streamed.

        Raises:
          FileAccessError: the system refuses to read it.
        """
        self._leaf, self._value = leaf, value
        self._left = value.length
        with self._reading():
            self._file = self._opened()
        self._decoder: Any = zstd.ZstdDecompressor() if codec == "zstd" else None
        # What is compressed is decompressed from here.
        self._buffer = memoryview(bytearray(min(_READ, value.length) if self._decoder else 0))

    def _opened(self) -> io.FileIO | io.BytesIO:
        if self._value.inline is not None:
            return io.BytesIO(self._value.inline)
        file = open(self._value.file, "rb", buffering=0)  # noqa: SIM115
        file.seek(self._value.offset)
        return file

    def close(self) -> None:
        self._file.close()

    def fill(self, view: memoryview) -> None:
        """Puts the next bytes into all of `view`.

        Raises:
          CorruptFileError: there are fewer, or they are damaged.
          FileAccessError: the system refuses to read them.
        """
        with self._reading():
            while len(view):
                view = view[self._some(view) :]

    def end(self) -> None:
        """Checks that there are no more.

        Raises:
          CorruptFileError: there are.
        """
        with self._reading():
            is_at_end = self._decoder.eof or self._at_end() if self._decoder else not self._left
            if not is_at_end:
                raise ValueError("it holds more than its header says")

    def _some(self, view: memoryview) -> int:
        """Puts a few bytes into `view`, at least one."""
        if self._decoder is None:
            return self._stored_into(view)
        while not self._decoder.eof:
            stored = self._stored() if self._decoder.needs_input else b""
            found = self._decoder.decompress(stored, min(len(view), _DECODED))
            if found:
                view[: len(found)] = found
                return len(found)
        raise ValueError("it ends early")

    def _at_end(self) -> bool:
        """Whether the decoder has nothing left but to see the end."""
        while not self._decoder.eof:
            if self._decoder.decompress(self._stored() if self._decoder.needs_input else b"", 1):
                return False
        return True

    def _stored_into(self, view: memoryview) -> int:
        count = self._file.readinto(view[: self._left])
        if not count:
            raise ValueError("it ends early")
        self._left -= count
        return count

    def _stored(self) -> memoryview:
        """The next few bytes as they are stored, at least one."""
        return self._buffer[: self._stored_into(self._buffer)]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unreadable(self._value.file, error) from error
        except (ValueError, zstd.ZstdError) as error:
            where = printable(self._value.file) or "the index"
            raise CorruptFileError(
                f"{self._leaf}: is damaged: {error}; its bytes are in {where}, copy the "
                f"checkpoint again"
            ) from error
