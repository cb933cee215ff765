"""Where in a file of Flax's msgpack each leaf is: one pass that reads no numbers."""

import dataclasses
from typing import IO

import msgpack
import numpy as np

from shared.checkpoint.formats import contents
from shared.checkpoint.formats.contents import Span
from shared.checkpoint.formats.msgpack_objects import Cursor, Head
from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaf, Path, nothing
from shared.errors import CorruptFileError, InputError, first_line

# The types that Flax adds to those of msgpack.
NDARRAY, COMPLEX, NUMPY_SCALAR = 1, 2, 3
# The only key that is not a name: of a dict that holds an array in pieces.
IN_PIECES = "__msgpack_chunked_array__"


@dataclasses.dataclass(frozen=True)
class Stored:
    """A leaf: where its numbers are; or, of one of Python's numbers, the number."""

    leaf: Leaf
    spans: tuple[Span, ...] = ()
    value: np.ndarray | None = None


def index_of(file: IO[bytes], size: int, path: str) -> dict[Path, Stored]:
    """All leaves of a file of `size` bytes, in their order.

    Raises:
      InputError: it holds no tree of arrays, or more than any model has.
      CorruptFileError: it is damaged.
    """
    index = _Index(Cursor(file, size, path))
    head = index.cursor.head()
    if head.kind != "map":
        raise InputError(f"{path}: holds no tree: its root is a {head.kind}, expected a map")
    index.add_map((), head.length)
    if file.tell() != size:
        raise CorruptFileError(
            f"{path}: {size - file.tell():,} bytes after the end of its tree at byte "
            f"{file.tell():,}; copy or download it again"
        )
    return index.found


class _Index:
    """The leaves of a file, by their paths, as far as the cursor is."""

    def __init__(self, cursor: Cursor):
        self.cursor = cursor
        self.found: dict[Path, Stored] = {}

    def add(self, path: Path) -> None:
        """Adds the object that follows."""
        head = self.cursor.head()
        contents.check_number_of_leaves(len(self.found), self.cursor.path)
        if len(path) > contents.MAX_DEPTH:
            raise InputError(
                f"{self.cursor.path}: trees in trees, {contents.MAX_DEPTH} deep and deeper, "
                f"are refused"
            )
        if head.kind in ("map", "list") and head.length:
            self._add_what_is_in(path, head)
        else:
            self.found[path] = self._leaf(path, head)

    def _add_what_is_in(self, path: Path, head: Head) -> None:
        if head.kind == "map":
            self.add_map(path, head.length)
        else:
            for i in range(head.length):
                self.add((*path, i))

    def _leaf(self, path: Path, head: Head) -> Stored:
        if head.kind == "map":
            return _empty("Dict")
        if head.kind == "list":
            return _empty("List")
        if head.kind == "number":
            return _empty("None") if head.value is None else _number(head.value)
        if head.kind == "ext" and head.ext == COMPLEX:
            return self._complex(path, self.cursor.take(head.length))
        if head.kind == "ext" and head.ext in (NDARRAY, NUMPY_SCALAR):
            return self._array(path, head)
        what = f"of msgpack's type {head.ext}" if head.kind == "ext" else head.kind
        raise InputError(f"{self._where(path)}: is {what}, no array and no number; leave it out")

    def add_map(self, path: Path, length: int) -> None:
        """Adds what is in a map, of which so many keys and values follow."""
        names: set[str] = set()
        before = len(self.found)
        for _ in range(length):
            name = self._name(path)
            if name in names:
                raise InputError(f"{self._where((*path, name))}: is there twice")
            names.add(name)
            self.add((*path, name))
        if IN_PIECES in names:
            parts = dict(self.found.popitem() for _ in range(len(self.found) - before))
            inside = {place[len(path) :]: stored for place, stored in parts.items()}
            self.found[path] = _in_one(inside, self._where(path))

    def _name(self, path: Path) -> str:
        head = self.cursor.head()
        if head.kind != "text":
            key = repr(head.value) if head.kind == "number" else f"a {head.kind}"
            raise InputError(f"{self._where(path)}: its key {key} is no text")
        length = min(head.length, contents.MAX_NAME_BYTES + 1)
        try:
            name = self.cursor.take(length).decode(
                "utf-8", "strict" if length == head.length else "replace"
            )
        except UnicodeDecodeError as error:
            raise CorruptFileError(
                f"{self._where(path)}: a name in it is no UTF-8: {first_line(error)}"
            ) from error
        contents.check_name(name, self._where(path))
        return name

    def _complex(self, path: Path, packed: bytes) -> Stored:
        try:
            real, imaginary = msgpack.unpackb(packed)
            return _number(complex(real, imaginary))
        except (ValueError, TypeError) as error:
            raise CorruptFileError(
                f"{self._where(path)}: is no complex number: {first_line(error)}"
            ) from error

    def _array(self, path: Path, head: Head) -> Stored:
        """An array: a list of its shape, the name of its dtype, and its bytes."""
        where, cursor = self._where(path), self.cursor
        end = cursor.room_for(head.length) + head.length
        if cursor.head() != Head("list", 3):
            raise CorruptFileError(f"{where}: its header is damaged: expected 3 parts")
        shape, name = self._shape(where), cursor.head()
        dtype_name = cursor.take(min(name.length, 32)).decode("ascii", "replace")
        if name.kind != "text" or dtype_name not in contents.DTYPES:
            raise InputError(
                f"{where}: its dtype {dtype_name!r} is not one of {contents.NUMBERS}; leave it out"
            )
        dtype = contents.DTYPES[dtype_name]
        leaf = Leaf(
            contents.checked_shape(shape, dtype, where),
            dtype,
            "array" if head.ext == NDARRAY else "numpy",
        )
        data = cursor.head()
        at = cursor.file.tell()
        if data.kind != "bytes" or at + data.length != end or data.length != leaf.nbytes:
            raise CorruptFileError(
                f"{where}: its header gives {leaf.shape} {dtype.name}, {leaf.nbytes:,} bytes, "
                f"but {max(end - at, 0):,} follow"
            )
        cursor.file.seek(end)
        return Stored(leaf, ((at, data.length),))

    def _shape(self, where: str) -> list[object]:
        head = self.cursor.head()
        if head.kind != "list" or head.length > contents.MAX_AXES:
            raise CorruptFileError(f"{where}: its header is damaged: it gives no shape")
        lengths = [self.cursor.head() for _ in range(head.length)]
        if any(length.kind != "number" for length in lengths):
            raise CorruptFileError(f"{where}: its header is damaged: its shape holds no lengths")
        return [length.value for length in lengths]

    def _where(self, path: Path) -> str:
        return f"{self.cursor.path}: {written(path) or 'its root'}"


def _empty(what: str) -> Stored:
    return Stored(nothing(what))


def _number(value: object) -> Stored:
    array = np.asarray(value)
    return Stored(Leaf((), array.dtype, "scalar"), value=array)


def _in_one(parts: dict[Path, Stored], where: str) -> Stored:
    """The array that Flax has put into a dict: its shape and pieces, each {"0": ., "1": .}."""
    number = {name: sum(place[0] == name for place in parts) for name in ("shape", "chunks")}
    shape_at, pieces_at = ([(name, str(i)) for i in range(n)] for name, n in number.items())
    if parts.keys() != {(IN_PIECES,), *shape_at, *pieces_at} or not pieces_at:
        raise CorruptFileError(f"{where}: an array in pieces, of which some are missing or extra")
    pieces = [parts[place] for place in pieces_at]
    dtype = pieces[0].leaf.dtype
    lengths = [parts[place].value for place in shape_at]
    shape = contents.checked_shape([None if n is None else n.item() for n in lengths], dtype, where)
    leaf = Leaf(shape, dtype)
    spans = tuple(span for piece in pieces for span in piece.spans)
    received = sum(length for _, length in spans)
    if received != leaf.nbytes or any(piece.leaf.dtype != dtype for piece in pieces):
        raise CorruptFileError(
            f"{where}: its header gives {shape} {dtype.name}, {leaf.nbytes:,} bytes, but its "
            f"pieces are other arrays, of {received:,}"
        )
    return Stored(leaf, spans)
