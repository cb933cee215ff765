"""What the formats of one file share: what such a file may claim, and numbers to and from it."""

import contextlib
import errno
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import ml_dtypes
import numpy as np

from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaf, Path, Read
from shared.errors import CorruptFileError, FileAccessError, InputError

# Of a mixture of experts in layers by themselves, with its optimizer's moments, 150,000 are used.
MAX_LEAVES = 2**18
MAX_DEPTH = 128
MAX_NAME_BYTES = 1024
MAX_AXES = 64
MEMORY_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

# Of an error of the system: the file is not what a user can mean.
NO_FILE = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist: a part of its path is a file",
    errno.ELOOP: "is a symbolic link that leads to itself",
    errno.ENAMETOOLONG: "has too long a name",
}

_OF_NUMPY = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 "
    "complex128"
)
_OF_ML_DTYPES = (
    "bfloat16 float8_e3m4 float8_e4m3 float8_e4m3b11fnuz float8_e4m3fn float8_e4m3fnuz "
    "float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn int2 int4 uint2 uint4"
)
DTYPES = {name: np.dtype(name) for name in _OF_NUMPY.split()} | {
    name: np.dtype(getattr(ml_dtypes, name)) for name in _OF_ML_DTYPES.split()
}
NUMBERS = (
    "bool, int and uint of 2 to 64 bits, float16 to float64, bfloat16, float4, float8, complex64, "
    "complex128"
)
# Where the bytes of some numbers are in a file: where they begin, and how many they are.
Span = tuple[int, int]


@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[IO[bytes], int]]:
    """A regular file that is read, and its size in bytes.

    Raises:
      InputError: there is none.
      FileAccessError: the system refuses to read it.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path}: is not a regular file; name a checkpoint's file or folder")
        with open(path, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        if error.errno in NO_FILE:
            raise InputError(
                f"{path}: {NO_FILE[error.errno]}; name an existing checkpoint"
            ) from error
        raise FileAccessError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def created(path: str) -> Iterator[IO[bytes]]:
    """A new file that is written.

    Raises:
      FileAccessError: it is there, or the system refuses to write it.
    """
    try:
        with open(path, "xb") as file:
            yield file
    except OSError as error:
        raise FileAccessError(f"{path}: cannot be written: {error.strerror or error}") from error


def checked_shape(shape: Sequence[Any], dtype: np.dtype, where: str) -> tuple[int, ...]:
    """The shape that a file gives, if there can be an array of it.

    Raises:
      InputError: there can be none.
    """
    if len(shape) > MAX_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise InputError(
            f"{where}: its header gives the shape {str(list(shape))[:80]}; expected at most "
            f"{MAX_AXES} lengths, each a whole number from 0"
        )
    # Of an array of no numbers too, the other lengths have a product, which NumPy forms.
    nbytes = math.prod(n for n in shape if n) * dtype.itemsize
    if nbytes > MEMORY_BYTES:
        raise InputError(
            f"{where}: its header gives the shape {str(list(shape))[:80]} {dtype.name}, "
            f"{nbytes:,} bytes; this machine has {MEMORY_BYTES:,}"
        )
    return tuple(shape)


def check_name(name: str, where: str) -> None:
    """Stops at a name that could be taken for a path out of a folder, is absurdly long, or no text.

    Raises:
      InputError: it is such a name.
    """
    if ".." in name.split("/") or name.startswith("/") or "\0" in name:
        raise InputError(
            f"{where}: the name {name[:80]!r} is refused: it could leave a folder; rename it"
        )
    if not is_unicode(name):
        raise InputError(f"{where}: the name {name[:80]!r} is not Unicode; rename it")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InputError(
            f"{where}: a name of more than {MAX_NAME_BYTES:,} bytes, {name[:40]!r} ..., is refused"
        )


def is_unicode(name: str) -> bool:
    """Whether a name can be written: in JSON half of a character may stand alone."""
    return name.isascii() or not any("\ud800" <= each <= "\udfff" for each in name)


def check_number_of_leaves(number: int, path: str) -> None:
    """Stops where there are more leaves than any model has.

    Raises:
      InputError: there are more.
    """
    if number > MAX_LEAVES:
        raise InputError(f"{path}: holds {number:,} leaves or more; the limit is {MAX_LEAVES:,}")


def read_spans(path: str, spans: Sequence[Span], leaf: Leaf, where: str) -> np.ndarray:
    """The numbers of a leaf, whose bytes in C's order, little endian, are those at `spans`.

    Raises:
      CorruptFileError: the file ends before.
      FileAccessError: the system refuses to read it.
    """
    array = np.empty(leaf.shape, leaf.dtype)
    into, at = as_bytes(array), 0
    with opened(path) as (file, size):
        for offset, length in spans:
            file.seek(offset)
            received = file.readinto(into[at : at + length])  # type: ignore[attr-defined]
            if received != length:
                raise truncated(path, size, offset + length, where)
            at += length
    return array


def truncated(path: str, size: int, needed: int, where: str = "") -> CorruptFileError:
    """The error of a file that ends too early."""
    inside = f" inside of {where}" if where else ""
    return CorruptFileError(
        f"{path}: truncated at byte {size:,} of {needed:,}{inside}; copy or download it again"
    )


def as_bytes(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def numbers_of(path: Path, leaf: Leaf, read: Read) -> np.ndarray:
    """The numbers of a leaf that is written: contiguous in C's order, little endian.

    Raises:
      ValueError: `read` gives another shape or dtype than `leaf` has.
    """
    array = read(path)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{written(path)}: is written whole, and not in parts")
    if array.shape != leaf.shape or array.dtype.name != leaf.dtype.name:
        raise ValueError(
            f"{written(path)}: expected {leaf.shape} {leaf.dtype.name}, received {array.shape} "
            f"{array.dtype.name}"
        )
    # Of a view that is transposed or in another byte order the bytes are not those of the numbers.
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def nested(leaves: Iterable[Path], source: str = "") -> dict[str, Any]:
    """The dicts that leaves stand in, by their paths, which are in place of them; keys are text.

    Raises:
      InputError: two leaves have one place; or one stands where another's dict does.
    """
    root: dict[str, Any] = {}
    prefix = f"{source}: " if source else ""
    for path in leaves:
        node: Any = root
        where = f"{prefix}{written(path)[:200]}"
        if not path:
            raise InputError(f"{prefix}a single array is no tree; put it into a dict")
        if len(path) > MAX_DEPTH:
            raise InputError(f"{where}: more than {MAX_DEPTH} levels deep")
        for i, name in enumerate(path):
            check_name(str(name), where)
            last = i + 1 == len(path)
            node = node.setdefault(str(name), path if last else {})
            if (node is not path) if last else not isinstance(node, dict):
                raise InputError(f"{where}: another leaf has this place, or one in it")
    return root
