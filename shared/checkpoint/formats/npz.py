"""Arrays in a .npz archive under flat names, `params/Transformer/...`, as big_vision saves them."""

import math
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from shared.checkpoint.formats import contents
from shared.checkpoint.naming import separator_of, written
from shared.checkpoint.stored import Leaf, Leaves, OfOneFile, Path
from shared.errors import CorruptFileError, InputError
from shared.files.npy import read_header
from shared.files.npz import open_archive

# What is unpacked at a time.
_PIECE_BYTES = 2**20
# Deflate makes a byte of no more than 1,032 bytes.
_MOST_TO_A_BYTE = 1_100


class NpzReader(OfOneFile):
    """The leaves of a .npz archive: arrays of NumPy; the names in their paths are text.

    What separates them is `/`, or `.` if no name holds that and so they are a tree.
    """

    format = "npz"

    def __init__(self, path: str, void_as: str | None = None):
        self.path = path
        self._void_as = void_as
        self._members: dict[Path, zipfile.ZipInfo] = {}
        leaves: dict[Path, Leaf] = {}
        with (
            contents.opened(path) as (file, _),
            open_archive(file, path, contents.MAX_LEAVES) as archive,
        ):
            members = archive.infolist()
            separator = _separator(member.filename.removesuffix(".npy") for member in members)
            for member in members:
                place = _path_of(member.filename, separator, path)
                if place in leaves:
                    raise InputError(f"{path}: {written(place)}: is there twice")
                self._members[place] = member
                with archive.open(_checked(member, path)) as stream:
                    leaves[place] = self._leaf(stream, place)[0]
        contents.nested(leaves, path)
        if void_as and void_as not in {leaf.dtype.name for leaf in leaves.values()}:
            raise InputError(
                f"{path}: no array has lost its dtype, and --dtype={void_as} casts nothing; leave "
                f"it out"
            )
        self.leaves: Leaves = leaves

    def read(self, path: Path) -> np.ndarray:
        """The numbers of a leaf, as `Reader.read` says."""
        with (
            contents.opened(self.path) as (file, _),
            open_archive(file, self.path, contents.MAX_LEAVES) as archive,
            archive.open(self._members[path]) as stream,
        ):
            leaf, stored, fortran_order = self._leaf(stream, path)
            array = np.empty(leaf.shape, leaf.dtype)
            # In Fortran's order the last axis is the first.
            rows = array.T if fortran_order and array.ndim > 1 else array.reshape(-1)
            # At its end the archive compares the checksum.
            for some in _pieces(rows):
                data = stream.read(some.nbytes)
                some[...] = np.frombuffer(data, stored).reshape(some.shape)
            return array

    def _leaf(self, stream: IO[bytes], path: Path) -> tuple[Leaf, np.dtype, bool]:
        """The leaf whose header follows, the dtype it is stored in, and if in Fortran's order."""
        where = f"{self.path}: {written(path)}"
        shape, fortran_order, dtype = read_header(stream, where)
        stored = self._dtype(dtype, where)
        leaf = Leaf(contents.checked_shape(shape, stored, where), stored.newbyteorder("="), "numpy")
        received = self._members[path].file_size - stream.tell()
        if received != leaf.nbytes:
            what = "truncated: " if received < leaf.nbytes else ""
            raise CorruptFileError(
                f"{where}: {what}its header gives {leaf.shape} {leaf.dtype.name}, "
                f"{leaf.nbytes:,} bytes, but {received:,} follow"
            )
        return leaf, stored, fortran_order

    def _dtype(self, dtype: np.dtype, where: str) -> np.dtype:
        if dtype.kind == "V" and dtype.names is None and dtype.subdtype is None:
            given = contents.DTYPES.get(self._void_as or "")
            if given is None or given.itemsize != dtype.itemsize:
                raise InputError(
                    f"{where}: its dtype is lost: NumPy saves bfloat16 and the like as "
                    f"{dtype.itemsize} bytes of anything; say which it is: convert --dtype=bfloat16"
                )
            return given
        if dtype.name not in contents.DTYPES:
            raise InputError(
                f"{where}: its dtype {dtype.name} is not one of {contents.NUMBERS}; leave it out"
            )
        return dtype


def open_npz(path: str, void_as: str | None = None) -> NpzReader:
    """The checkpoint in a .npz archive. Of its members the headers are read.

    Args:
      path: of the archive.
      void_as: the name of the dtype of arrays that NumPy saved as bytes of anything: "bfloat16".

    Raises:
      InputError: there is no such file, or it holds anything but arrays of numbers.
      FileAccessError: the system refuses to read it.
      CorruptFileError: it is damaged.
    """
    return NpzReader(path, void_as)


def _separator(names: Iterable[str]) -> str:
    names = list(names)
    paths = [tuple(name.split(".")) for name in names]
    try:
        contents.nested(paths)
    except InputError:
        return "/"
    return separator_of(names) if all(map(all, paths)) else "/"


def _path_of(name: str, separator: str, path: str) -> Path:
    contents.check_name(name, path)
    return tuple(name.removesuffix(".npy").split(separator))


def _checked(member: zipfile.ZipInfo, path: str) -> zipfile.ZipInfo:
    """A member whose size can be true."""
    where = f"{path}: {member.filename[:80]}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{where}: is compressed otherwise than NumPy does; save it with NumPy")
    if member.file_size > _MOST_TO_A_BYTE * (member.compress_size + 1):
        raise InputError(
            f"{where}: {member.compress_size:,} bytes cannot unpack to {member.file_size:,}"
        )
    return member


def _pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Views of a few rows each, one after another."""
    of_a_row = rows.dtype.itemsize * math.prod(rows.shape[1:])
    step = max(1, _PIECE_BYTES // max(1, of_a_row))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
