"""The index of the values of an Orbax checkpoint, written: a database of TensorStore's OCDBT.

TensorStore itself would write the values as well, and copies each twice on the way: it takes three
times as long as the system does. Here they are in files already; the index, of one node, is written
after them, so that a checkpoint that is not complete has none. The format is the one described at
https://google.github.io/tensorstore/kvstore/ocdbt/index.html#storage-format.
"""

import itertools
import os
import secrets
import struct
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_MANIFEST, _NODE = 0x0CDB3A2A, 0x0CDB20DE
# Of the configuration, which is for who adds to the database: what Orbax has.
_SINGLE_MANIFEST, _MAX_INLINE, _MAX_NODE, _ARITY_LOG2 = 0, 1024, 100_000_000, 4
_INLINE, _INDIRECT = 0, 1


class Stretch(NamedTuple):
    """`length` bytes from `offset` on, of a file that is named from the directory on."""

    file: str
    offset: int
    length: int


def new_file() -> str:
    """A name for a file of values."""
    return f"d/{secrets.token_hex(16)}"


def write_index(directory: str, values: Mapping[str, bytes | Stretch]) -> None:
    """Writes the index of `values`, each its content or the place of it.

    Args:
      directory: of the database; the files are there, and no index.
      values: {key: value}, one at least.

    Raises:
      OSError: the system refuses.
    """
    items = sorted((key.encode(), value) for key, value in values.items())
    node, name = _framed(_NODE, _node(items)), new_file()
    indirect = sum(value.length for _, value in items if isinstance(value, Stretch))
    manifest = b"".join(
        [
            secrets.token_bytes(16),
            _varints([_SINGLE_MANIFEST, _MAX_INLINE, _MAX_NODE, _ARITY_LOG2]),
            _varints([0]),  # nodes are not compressed
            _files([name]),
            # One version, the first, its root of height 0: file, offset and length, then how much
            # there is.
            _varints([1, 1, 0, 0, 0, len(node), len(items), len(node), indirect]),
            struct.pack("<Q", time.time_ns()),
            _varints([0]),  # no older versions
        ]
    )
    for file, content in ((name, node), ("manifest.ocdbt", _framed(_MANIFEST, manifest))):
        with open(os.path.join(directory, file), "xb") as opened:
            opened.write(content)


def _node(items: Sequence[tuple[bytes, bytes | Stretch]]) -> bytes:
    keys, values = [key for key, _ in items], [value for _, value in items]
    beginnings = [0, *(_shared(*pair) for pair in itertools.pairwise(keys))]
    stretches = [value for value in values if isinstance(value, Stretch)]
    names = dict.fromkeys(value.file for value in stretches)
    files = {name: number for number, name in enumerate(names)}
    return b"".join(
        [
            _varints([0]),  # its height: all entries are values
            _files(list(files)),
            _varints([len(items), *beginnings[1:]]),
            _varints([len(key) - n for key, n in zip(keys, beginnings, strict=True)]),
            *(key[n:] for key, n in zip(keys, beginnings, strict=True)),
            _varints([v.length if isinstance(v, Stretch) else len(v) for v in values]),
            bytes(_INDIRECT if isinstance(value, Stretch) else _INLINE for value in values),
            _varints([files[value.file] for value in stretches]),
            _varints([value.offset for value in stretches]),
            *(value for value in values if isinstance(value, bytes)),
        ]
    )


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes two keys begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _files(names: Sequence[str]) -> bytes:
    """A table of files: of each its name, no part of which is that of the one before or a base."""
    encoded = [name.encode() for name in names]
    none = [0] * len(names)
    return b"".join(
        [_varints([len(names), *none[1:], *map(len, encoded), *none]), *encoded],
    )


def _framed(magic: int, content: bytes) -> bytes:
    """With what stands before and after it: what it is, its length, version 0, a checksum."""
    head = struct.pack(">I", magic) + struct.pack("<Q", 4 + 8 + 2 + len(content) + 4) + b"\0\0"
    return head + content + struct.pack("<I", crc32c(head + content))


def _varints(numbers: Sequence[int]) -> bytes:
    found = bytearray()
    for number in numbers:
        while number > 0x7F:
            found.append(number & 0x7F | 0x80)
            number >>= 7
        found.append(number)
    return bytes(found)


def crc32c(content: bytes) -> int:
    """Castagnoli's checksum."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table() -> list[int]:
    found = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        found.append(number)
    return found


_TABLE = _table()
