"""Flax's msgpack: what `flax.serialization.to_bytes` makes, as in `flax_model.msgpack`."""

import struct
from typing import IO, Any

import msgpack
import numpy as np

from shared.checkpoint.formats import contents
from shared.checkpoint.formats.msgpack_index import (
    COMPLEX,
    IN_PIECES,
    NDARRAY,
    NUMPY_SCALAR,
    index_of,
)
from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaf, Leaves, OfOneFile, Path, Read
from shared.errors import InputError

# As Flax does: msgpack's own limit is twice that.
MAX_PIECE_BYTES = 2**30


class MsgpackReader(OfOneFile):
    """The leaves of a file of Flax's msgpack. The names in a sequence that Flax wrote are text.

    A dict is there as it was; NumPy's numbers are of kind "numpy", arrays of kind "array", a key is
    an array of uint32.
    """

    format = "msgpack"

    def __init__(self, path: str):
        self.path = path
        with contents.opened(path) as (file, size):
            self._index = index_of(file, size, path)
        self.leaves: Leaves = {place: stored.leaf for place, stored in self._index.items()}

    def read(self, path: Path) -> np.ndarray:
        """The numbers of a leaf, as `Reader.read` says."""
        stored = self._index[path]
        if stored.value is not None:
            return stored.value
        where = f"leaf {written(path)}"
        return contents.read_spans(self.path, stored.spans, stored.leaf, where)


def open_msgpack(path: str) -> MsgpackReader:
    """The checkpoint in a file of Flax's msgpack. No numbers are read.

    Raises:
      InputError: there is no such file, or it holds anything but a tree of arrays and numbers.
      FileAccessError: the system refuses to read it.
      CorruptFileError: it is damaged.
    """
    return MsgpackReader(path)


def write_msgpack(target: str, leaves: Leaves, read: Read) -> None:
    """Writes what `flax.serialization.from_bytes` reads, as `Writer` says.

    The bytes are those of `to_bytes` of the same state dict: a sequence is a dict of "0", "1", ...;
    leaves stand in the order of `leaves`, those of a dict together. A number of NumPy is written
    as such, a typed key as an array of uint32.
    """
    check_msgpack(leaves)
    tree = contents.nested(leaves)
    with contents.created(target) as file:
        _write(file, tree, leaves, read)


def check_msgpack(leaves: Leaves) -> None:
    """Stops at what the format cannot hold.

    Raises:
      InputError: the leaf is named.
    """
    contents.nested(leaves)
    for path, leaf in leaves.items():
        if IN_PIECES in path:
            raise InputError(
                f"{written(path)}: the name {IN_PIECES} is one that Flax reserves; rename it"
            )
        if leaf.kind != "empty" and leaf.dtype.name not in contents.DTYPES:
            raise InputError(
                f"{written(path)}: msgpack of Flax has no dtype {leaf.dtype.name}; use "
                f"--format=orbax"
            )


def _write(file: IO[bytes], node: Any, leaves: Leaves, read: Read) -> None:
    """Writes a dict of dicts and paths."""
    if not isinstance(node, dict):
        _write_leaf(file, leaves[node], node, read)
        return
    file.write(msgpack.Packer().pack_map_header(len(node)))
    for name, value in node.items():
        file.write(msgpack.packb(name))
        _write(file, value, leaves, read)


def _write_leaf(file: IO[bytes], leaf: Leaf, path: Path, read: Read) -> None:
    if leaf.kind == "empty":
        file.write(msgpack.packb(None if leaf.empty == "None" else {}))
        return
    array = contents.numbers_of(path, leaf, read)
    # A number that would come back in another dtype is written as NumPy's.
    if leaf.kind == "scalar" and np.asarray(array.item()).dtype == array.dtype:
        file.write(msgpack.packb(array.item(), default=_complex))
    elif array.nbytes > MAX_PIECE_BYTES:
        _write_pieces(file, array)
    else:
        is_number = leaf.kind in ("scalar", "numpy") and not array.shape
        _write_array(file, array, NUMPY_SCALAR if is_number else NDARRAY)


def _complex(value: object) -> msgpack.ExtType:
    assert isinstance(value, complex)
    return msgpack.ExtType(COMPLEX, msgpack.packb((value.real, value.imag)))


def _write_array(file: IO[bytes], array: np.ndarray, kind: int) -> None:
    """Writes an array as msgpack's type `kind`, its bytes without a copy of them."""
    header = b"\x93" + msgpack.packb(array.shape) + msgpack.packb(array.dtype.name)
    header += _sized(array.nbytes, {1: 0xC4, 2: 0xC5, 4: 0xC6})
    length = len(header) + array.nbytes
    start = b"\xd8" if length == 16 else _sized(length, {1: 0xC7, 2: 0xC8, 4: 0xC9})
    file.write(start + struct.pack("b", kind) + header)
    file.write(contents.as_bytes(array))


def _sized(length: int, first_bytes: dict[int, int]) -> bytes:
    """The first byte of an object of a length, and the length in as few bytes as it needs."""
    width = next(width for width in first_bytes if length < 256**width)
    return bytes([first_bytes[width]]) + length.to_bytes(width, "big")


def _write_pieces(file: IO[bytes], array: np.ndarray) -> None:
    """Writes a large array as Flax does: its shape and flat pieces in a dict."""
    flat, size = array.reshape(-1), max(1, MAX_PIECE_BYTES // array.dtype.itemsize)
    starts = range(0, flat.size, size)
    shape = {str(i): length for i, length in enumerate(array.shape)}
    packer = msgpack.Packer()
    file.write(packer.pack_map_header(3) + msgpack.packb(IN_PIECES) + msgpack.packb(True))
    file.write(msgpack.packb("shape") + msgpack.packb(shape) + msgpack.packb("chunks"))
    file.write(packer.pack_map_header(len(starts)))
    for i, start in enumerate(starts):
        file.write(msgpack.packb(str(i)))
        _write_array(file, flat[start : start + size], NDARRAY)
