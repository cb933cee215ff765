"""Objects of msgpack, one after another: what each begins with. What it holds may stay unread."""

import dataclasses
import struct
from typing import IO

import msgpack

from shared.checkpoint.formats import contents
from shared.errors import CorruptFileError

# By the first byte of an object: what it is, and of how many bytes is the length that follows.
_SIZED = {
    **{0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4)},
    **{0xC7: ("ext", 1), 0xC8: ("ext", 2), 0xC9: ("ext", 4)},
    **{0xD9: ("text", 1), 0xDA: ("text", 2), 0xDB: ("text", 4)},
    **{0xDC: ("list", 2), 0xDD: ("list", 4), 0xDE: ("map", 2), 0xDF: ("map", 4)},
}
_FIXED_EXT = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
# Of a number: how many bytes follow.
_NUMBERS = {0xCA: 4, 0xCB: 8, **{0xCC + i: 2**i for i in range(4)}}
_NUMBERS |= {0xD0 + i: 2**i for i in range(4)} | {0xC0: 0, 0xC2: 0, 0xC3: 0}


@dataclasses.dataclass(frozen=True)
class Head:
    """What an object begins with: of a number the number, of others how long they are."""

    kind: str
    length: int = 0
    ext: int = 0
    value: object = None


class Cursor:
    """Reads a file from its beginning, as far as it is told."""

    def __init__(self, file: IO[bytes], size: int, path: str):
        self.file, self.size, self.path = file, size, path

    def take(self, length: int) -> bytes:
        """The bytes that follow; raises CorruptFileError if the file ends before."""
        self.room_for(length)
        return self.file.read(length)

    def room_for(self, length: int) -> int:
        """Where the cursor is, if so many bytes follow; else raises CorruptFileError."""
        at = self.file.tell()
        if at + length > self.size:
            raise contents.truncated(self.path, self.size, at + length)
        return at

    def head(self) -> Head:
        """What the next object begins with."""
        first = self.take(1)
        byte = first[0]
        if byte <= 0x7F or byte >= 0xE0 or byte in _NUMBERS:
            number = first + self.take(_NUMBERS.get(byte, 0))
            return Head("number", value=msgpack.unpackb(number))
        if byte <= 0x8F:
            return Head("map", byte & 0x0F)
        if byte <= 0x9F:
            return Head("list", byte & 0x0F)
        if byte <= 0xBF:
            return Head("text", byte & 0x1F)
        if byte in _FIXED_EXT:
            return Head("ext", _FIXED_EXT[byte], *struct.unpack("b", self.take(1)))
        if byte not in _SIZED:
            raise CorruptFileError(f"{self.path}: byte {self.file.tell() - 1:,} is no msgpack")
        kind, width = _SIZED[byte]
        length = int.from_bytes(self.take(width), "big")
        if kind == "ext":
            return Head(kind, length, *struct.unpack("b", self.take(1)))
        return Head(kind, length)
