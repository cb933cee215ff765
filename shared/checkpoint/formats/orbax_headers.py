"""The header of an array in an Orbax checkpoint, in Zarr's version 2 or 3; what it may claim."""

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from shared.checkpoint.formats.orbax_values import Value, Values
from shared.errors import CorruptFileError, InputError, printable

# Where a chunk begins in its array.
Origin = tuple[int, ...]

MAX_AXES = 32
LARGEST_BYTES = 2**20
# In the index of a chunk.
INDEXED, CHECKSUM = 16, 4
# Zstandard stores 128 KiB of equal bytes in 4.
MOST_COMPRESSED = 2**15


@dataclasses.dataclass(frozen=True)
class Header:
    """What an array is, and how its chunks are stored.

    Attributes:
      shape, dtype: of the array.
      chunks: the shape of each chunk; those at the end reach beyond the array.
      inner: of the pieces that a chunk is stored in, with an index: the shape; None where it is
        one piece.
      codec: "raw" or "zstd": a chunk is its numbers in C's order, little-endian, or these
        compressed; "": something else.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...]
    inner: tuple[int, ...] | None
    codec: str
    version: int
    separator: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def index_bytes(self) -> int:
        """The size of the index of a chunk: of each piece its place and length, and a checksum."""
        if self.inner is None:
            return 0
        pieces = (n // k for n, k in zip(self.chunks, self.inner, strict=True))
        return INDEXED * math.prod(pieces) + CHECKSUM

    def origins(self) -> Iterator[Origin]:
        """Where the chunks begin, in C's order."""
        return itertools.product(
            *(range(0, n, size) for n, size in zip(self.shape, self.chunks, strict=True))
        )

    def key(self, origin: Origin) -> str:
        """The key of the chunk that begins there, below the array's."""
        places = [str(at // size) for at, size in zip(origin, self.chunks, strict=True)]
        if self.version == 3:
            return self.separator.join(["c", *places])
        return self.separator.join(places) or "0"


def header_of(leaf: str, name: str, values: Values, version: int) -> Header:
    """Reads the header of the array that is stored under `name`, and checks what it claims.

    Args:
      leaf: where it is, for messages.
      name: of the array.
      values: of the checkpoint.
      version: of Zarr.

    Raises:
      CorruptFileError: the header is missing or damaged, or claims what is not there.
      InputError: the array cannot be in this machine's memory, or has a dtype that is not known.
    """
    key = f"{name}/{'zarr.json' if version == 3 else '.zarray'}"
    if key not in values:
        raise CorruptFileError(
            f"{leaf}: its array is missing, there is no {printable(key)}; copy the checkpoint again"
        )
    try:
        if values[key].length > LARGEST_BYTES:
            raise ValueError("too long")
        found = json.loads(values[key].read())
        header = _version_3(found) if version == 3 else _version_2(found)
        _check(header)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{leaf}: {error}") from error
        raise CorruptFileError(
            f"{leaf}: its header, {printable(key)}, is damaged; copy the checkpoint again"
        ) from error
    _check_claim(leaf, name, header, values)
    return header


def _version_2(found: dict[str, Any]) -> Header:
    dtype = _dtype(found["dtype"])
    compressor = found["compressor"]
    codec = "raw" if compressor is None else compressor["id"]
    is_plain = found["order"] == "C" and not found["filters"] and dtype.byteorder != ">"
    return Header(
        _shape(found["shape"]),
        dtype.newbyteorder("="),
        _shape(found["chunks"]),
        None,
        codec if is_plain and codec in ("raw", "zstd") else "",
        2,
        found.get("dimension_separator", "."),
    )


def _version_3(found: dict[str, Any]) -> Header:
    codecs, inner = found["codecs"], None
    encoding = found["chunk_key_encoding"]
    if encoding["name"] != "default" or found["chunk_grid"]["name"] != "regular":
        raise ValueError("unknown chunks")
    separator = encoding.get("configuration", {}).get("separator", "/")
    is_plain = True
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        sharding = codecs[0]["configuration"]
        codecs, inner = sharding["codecs"], _shape(sharding["chunk_shape"])
        index = [each["name"] for each in sharding["index_codecs"]]
        is_plain = index == ["bytes", "crc32c"] and sharding.get("index_location") in (None, "end")
    names = [each["name"] for each in codecs]
    codec = {("bytes",): "raw", ("bytes", "zstd"): "zstd"}.get(tuple(names), "")
    is_little = names[:1] == ["bytes"] and (
        codecs[0].get("configuration", {}).get("endian", "little") == "little"
    )
    return Header(
        _shape(found["shape"]),
        _dtype(found["data_type"]),
        _shape(found["chunk_grid"]["configuration"]["chunk_shape"]),
        inner,
        codec if is_plain and is_little else "",
        3,
        separator,
    )


def _dtype(name: Any) -> np.dtype:
    """The dtype of a name: NumPy's, in either version's words, or one of ml_dtypes."""
    if not isinstance(name, str):
        raise InputError("holds records, expected numbers; save the checkpoint without it")
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    if dtype.kind not in "biufcV" or dtype.hasobject or (dtype.kind == "V" and dtype.num < 256):
        raise InputError(f"holds {dtype}, expected numbers; save the checkpoint without it")
    return dtype


def _shape(found: Any) -> tuple[int, ...]:
    if not isinstance(found, list) or any(type(length) is not int for length in found):
        raise ValueError("not a shape")
    return tuple(found)


def _check(header: Header) -> None:
    """Stops where the numbers do not fit each other."""
    inner = header.chunks if header.inner is None else header.inner
    sizes = list(zip(header.shape, header.chunks, inner, strict=True))
    if len(sizes) > MAX_AXES or any(not 0 < i <= c <= n or c % i for n, c, i in sizes):
        raise ValueError("chunks that do not fit")
    if header.separator not in ("/", "."):
        raise ValueError("an unknown separator")


def _check_claim(leaf: str, name: str, header: Header, values: Values) -> None:
    """Stops where the array cannot be held, or is not there: before memory is taken for it."""
    claimed, there = header.nbytes, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if claimed > there:
        raise InputError(
            f"{leaf}: claims {claimed:,} bytes, this machine has {there:,} of memory; use a larger "
            f"one, or do not trust the checkpoint"
        )
    count = math.prod(-(-n // size) for n, size in zip(header.shape, header.chunks, strict=True))
    if count > len(values):
        raise CorruptFileError(
            f"{leaf}: claims {count:,} chunks, {len(values):,} values are stored in all; copy the "
            f"checkpoint again"
        )
    for origin, value in chunks_of(leaf, name, header, values):
        of_chunk = math.prod(header.chunks) * header.dtype.itemsize
        least = of_chunk // MOST_COMPRESSED + header.index_bytes
        is_raw = header.codec == "raw" and header.inner is None
        if value.length < least or (is_raw and value.length != of_chunk):
            raise CorruptFileError(
                f"{leaf}: its chunk {header.key(origin)} claims {of_chunk:,} bytes, stored are "
                f"{value.length:,}; copy the checkpoint again"
            )


def chunks_of(
    leaf: str, name: str, header: Header, values: Values
) -> Iterator[tuple[Origin, Value]]:
    """Where each chunk begins and what it is stored as, in C's order.

    Raises:
      CorruptFileError: one is missing.
    """
    for origin in header.origins():
        key = f"{name}/{header.key(origin)}"
        if key not in values:
            raise CorruptFileError(
                f"{leaf}: its chunk {printable(key)} is missing; copy the checkpoint again"
            )
        yield origin, values[key]
