"""The SHA-256 of an array: of its numbers in C's order, the lowest byte of each first."""

import hashlib
from collections.abc import Iterable

import numpy as np


def sha256_of(array: np.ndarray) -> str:
    """In hexadecimal digits; shape and dtype are no part of it.

    Args:
      array: of any shape and any dtype but objects. No copy is made of one that is contiguous in
        C's order and little endian.
    """
    return hashlib.sha256(bytes_of(array)).hexdigest()


def sha256_of_parts(parts: Iterable[np.ndarray]) -> str:
    """That of the array whose numbers in C's order are in the parts, one after another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(bytes_of(part))
    return digest.hexdigest()


def bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of an array's numbers; of one that is contiguous and little endian no copy."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data
