"""The SHA-256 of an array: of its numbers in C's order, the lowest byte of each first."""

import hashlib

import numpy as np


def sha256_of(array: np.ndarray) -> str:
    """In hexadecimal digits; shape and dtype are no part of it.

    Args:
      array: of any shape and any dtype but objects. No copy is made of one that is contiguous in
        C's order and little endian.
    """
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()
