"""The .npy format: a header that is read first, then a body of exactly the size it gives."""

import math
import warnings
from typing import IO, Literal

import numpy as np
from numpy.lib import format as npy

from shared.errors import CorruptFileError, InputError, first_line
from shared.files import limits


def read_header(file: IO[bytes], source: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape that a .npy file gives, whether it is in Fortran's order, and its dtype.

    Raises:
      InputError: it is no such file, or holds objects of Python.
      CorruptFileError: its header is damaged.
    """
    first = file.read(len(npy.MAGIC_PREFIX))
    if first != npy.MAGIC_PREFIX:
        raise InputError(f"{source}: not a NumPy file (first bytes {first!r}){_guess(first)}")
    file.seek(0)
    try:
        version = npy.read_magic(file)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in readers:
            raise InputError(
                f"{source}: NumPy format {version[0]}.{version[1]}, expected 1.0 or 2.0; "
                f"save a plain array of numbers"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header that Python 2 wrote is read all the same
            shape, fortran_order, dtype = readers[version](file)
    except InputError:
        raise
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise CorruptFileError(
            f"{source}: its header cannot be read: {first_line(error)}"
        ) from error
    if dtype.hasobject:
        raise InputError(
            f"{source}: contains Python objects, which could run code, and is refused; "
            f"save an array of float32"
        )
    return shape, fortran_order, dtype


def read_npy(file: IO[bytes], size: int, source: str) -> np.ndarray:
    """The array in `file`, which holds `size` bytes. Reads the header first, then decides."""
    shape, fortran_order, dtype = read_header(file, source)
    _check_dtype(dtype, source)
    _check_shape(shape, source)
    declared, body = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared > limits.MAX_BYTES:
        raise InputError(
            f"{source}: its header gives {shape} {dtype.name}, {declared:,} bytes; the file has "
            f"{body:,}, the limit is {limits.MAX_BYTES:,}"
        )
    if declared > body:
        raise CorruptFileError(
            f"{source}: truncated: its header gives {shape} {dtype.name}, {declared:,} bytes, "
            f"but {body:,} follow; copy or write the file again"
        )
    if declared < body:
        raise CorruptFileError(
            f"{source}: {body - declared:,} bytes after the end of its array {shape} {dtype.name}; "
            f"save one array to a file"
        )
    order: Literal["C", "F"] = "F" if fortran_order else "C"
    return np.frombuffer(file.read(declared), dtype).reshape(shape, order=order)


def _guess(first: bytes) -> str:
    if first.startswith(b"\x80"):
        return "; it looks like a pickle, which could run code and is refused"
    if first.startswith(b"PK"):
        return "; it looks like a zip archive: name it .npz"
    if not first:
        return "; it is empty"
    return "; if it is text, name it .csv"


def _check_shape(shape: tuple[int, ...], source: str) -> None:
    if any(type(length) is not int or not 0 <= length <= limits.MAX_LENGTH for length in shape):
        raise InputError(
            f"{source}: its header gives the shape {str(shape)[:80]}; every length must be a whole "
            f"number from 0 to {limits.MAX_LENGTH:,}"
        )
    if len(shape) > limits.MAX_AXES:
        raise InputError(f"{source}: {len(shape)} axes, expected 2: (batch, features)")


def _check_dtype(dtype: np.dtype, source: str) -> None:
    if dtype.kind != "f" or dtype.itemsize > 8:
        bfloat16 = dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None
        hint = " (bfloat16 is stored so)" if bfloat16 else ""
        raise InputError(
            f"{source}: expected float16, float32 or float64, received {dtype.name}{hint}; "
            f"convert it yourself, with .astype('float32') where that is meant"
        )
