"""An array of an Orbax checkpoint, read whole or in parts: no more than that is held in memory."""

import contextlib
import itertools
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorstore as ts

from shared.checkpoint.formats.orbax_headers import CHECKSUM, Header, Origin
from shared.checkpoint.formats.orbax_index import crc32c
from shared.checkpoint.formats.orbax_streams import Stream, is_streamed
from shared.checkpoint.formats.orbax_values import Value, failed
from shared.errors import CorruptFileError

# The most bytes in a part: few enough for the caches of a processor.
PART = 2**22


class StoredArray:
    """One array of a checkpoint.

    What reads it raises CorruptFileError where the numbers are not what the header says, and
    FileAccessError where the system refuses to read them.
    """

    def __init__(
        self, leaf: str, header: Header, chunks: list[tuple[Origin, Value]], spec: dict[str, Any]
    ):
        """Takes no memory.

        Args:
          leaf: where it is, for messages.
          header: of the array.
          chunks: where each begins and what it is stored as, in C's order.
          spec: the array's in TensorStore, which reads what is compressed in an unusual way.
        """
        self.leaf, self.header, self._chunks, self._spec = leaf, header, chunks, spec

    def read(self) -> np.ndarray:
        """All of it, contiguous in C's order."""
        found = np.empty(self.header.shape, self.header.dtype)
        if self.is_in_order():
            left = _bytes_of(found)
            for stream, size in self._streams():
                stream.fill(left[:size])
                left = left[size:]
        elif is_streamed(self.header.codec):
            self._fill(found)
        else:
            self._fill_by_tensorstore(found)
        return self._checked(found)

    def parts(self) -> Iterator[np.ndarray]:
        """Its numbers in C's order: arrays of one axis, of at most `PART` bytes each."""
        count = PART // self.header.dtype.itemsize
        if not self.is_in_order():
            found = self.read().reshape(-1)
            yield from (found[i : i + count] for i in range(0, found.size, count))
            return
        for stream, size in self._streams():
            for start in range(0, size, PART):
                # No name here holds a part while the next one is made.
                yield self._part(stream, min(PART, size - start))

    def _part(self, stream: Stream, size: int) -> np.ndarray:
        part = np.empty(size, np.uint8).view(self.header.dtype)
        stream.fill(_bytes_of(part))
        return self._checked(part)

    def is_in_order(self) -> bool:
        """Whether the stored pieces, one after another, are the array in C's order."""
        header = self.header
        if not is_streamed(header.codec) or header.inner not in (None, header.chunks):
            return False
        lengths = list(zip(header.chunks, header.shape, strict=True))
        while lengths and lengths[0][0] == 1:
            lengths.pop(0)
        return all(chunk == length for chunk, length in lengths[1:])

    def _streams(self) -> Iterator[tuple[Stream, int]]:
        """Of each chunk in turn its bytes, and how many of them are of the array."""
        header = self.header
        for origin, value in self._chunks:
            inside = math.prod(_inside(origin, header.chunks, header.shape))
            for _, piece in self._pieces(origin, value):
                with contextlib.closing(Stream(self.leaf, piece, header.codec)) as stream:
                    yield stream, inside * header.dtype.itemsize
                    if inside == math.prod(header.chunks):
                        stream.end()

    def _fill(self, found: np.ndarray) -> None:
        header, shape = self.header, self.header.inner or self.header.chunks
        for origin, value in self._chunks:
            for start, piece in self._pieces(origin, value):
                region = found[tuple(slice(i, i + n) for i, n in zip(start, shape, strict=True))]
                with contextlib.closing(Stream(self.leaf, piece, header.codec)) as stream:
                    for block in _blocks(shape, header.dtype.itemsize):
                        numbers = np.empty([each.stop - each.start for each in block], header.dtype)
                        stream.fill(_bytes_of(numbers))
                        to = region[block]  # less than the block at the end of the array
                        to[...] = numbers[tuple(map(slice, to.shape))]
                    stream.end()

    def _fill_by_tensorstore(self, found: np.ndarray) -> None:
        # Nothing is kept: a chunk is read once.
        context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
        try:
            array = ts.open(self._spec, context=context, read=True, open=True).result()
            for origin, _ in self._chunks:
                size = _inside(origin, self.header.chunks, self.header.shape)
                region = tuple(slice(i, i + n) for i, n in zip(origin, size, strict=True))
                found[region] = array[region].read().result()
        except MemoryError:
            raise
        except Exception as error:  # TensorStore has no classes of its own for what is damaged
            file = self._chunks[0][1].file
            raise failed(error, file, self.leaf) from error

    def _pieces(self, origin: Origin, value: Value) -> list[tuple[Origin, Value]]:
        """Where in the array the pieces of a chunk begin, and what each is stored as."""
        header = self.header
        if header.inner is None:
            return [(origin, value)]
        sizes = zip(origin, header.chunks, header.inner, strict=True)
        starts = list(itertools.product(*(range(i, i + n, k) for i, n, k in sizes)))
        length = header.index_bytes
        index = value.part(value.length - length, length).read()
        (checksum,) = struct.unpack("<I", index[-CHECKSUM:])
        places = zip(starts, struct.iter_unpack("<QQ", index[:-CHECKSUM]), strict=True)
        inside = [
            (at, place)
            for at, place in places
            if all(i < n for i, n in zip(at, header.shape, strict=True))
        ]
        are_there = all(start + size <= value.length - length for _, (start, size) in inside)
        if checksum != crc32c(index[:-CHECKSUM]) or not are_there:
            raise CorruptFileError(
                f"{self.leaf}: is damaged: the index of its chunk {header.key(origin)} is not what "
                f"was written; copy the checkpoint again"
            )
        return [(at, value.part(*place)) for at, place in inside]

    def _checked(self, found: np.ndarray) -> np.ndarray:
        # What NumPy makes of a boolean that is neither 0 nor 1 is undefined.
        if found.dtype == bool and found.size and found.view(np.uint8).max() > 1:
            raise CorruptFileError(f"{self.leaf}: is damaged: a boolean is neither true nor false")
        return found


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _inside(origin: Origin, size: Origin, shape: tuple[int, ...]) -> list[int]:
    """The shape of a chunk that ends where the array does."""
    return [min(n, end - i) for i, n, end in zip(origin, size, shape, strict=True)]


def _blocks(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """The parts of a chunk, consecutive in C's order, each of at most `PART` bytes."""
    axis = 0
    while axis < len(shape) - 1 and math.prod(shape[axis + 1 :]) * itemsize > PART:
        axis += 1
    rest = [slice(0, length) for length in shape[axis + 1 :]]
    step = max(1, PART // (math.prod(shape[axis + 1 :]) * itemsize))
    for before in itertools.product(*(range(length) for length in shape[:axis])):
        for start in range(0, shape[axis], step):
            stop = min(start + step, shape[axis])
            yield (*(slice(i, i + 1) for i in before), slice(start, stop), *rest)
