"""Safetensors: one file of arrays in one flat dict, as model hubs keep them.

Its library checks a header; it can neither read one array of any dtype nor write one after another,
so both are done here.
"""

import json
from collections.abc import Iterable, Mapping

import numpy as np
from safetensors import SafetensorError, safe_open

from shared.checkpoint.formats import contents
from shared.checkpoint.naming import separator_of, written
from shared.checkpoint.stored import Leaf, Leaves, OfOneFile, Path, Read, nothing
from shared.errors import CorruptFileError, InputError, first_line

# As long as the names of `MAX_LEAVES` leaves need.
MAX_HEADER_BYTES = 2**26
# The key of what the format cannot hold, beside the arrays: which leaves are empty, and how.
EMPTY_LEAVES = "composed_lifts.empty_leaves"

NAMES = {
    **{"bool": "BOOL", "bfloat16": "BF16", "complex64": "C64"},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0"},
    **{"float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ"},
}
DTYPES = {name: contents.DTYPES[dtype_name] for dtype_name, name in NAMES.items()}


class SafetensorsReader(OfOneFile):
    """The leaves of a safetensors file, each of kind "array" unless it is empty.

    All names in a path are text.

    Attributes:
      separator: what stands between them: `/` if any name holds it, else `.`.
    """

    format = "safetensors"

    def __init__(self, path: str):
        self.path = path
        header, start = _header(path)
        empty = _empty_leaves(header.pop("__metadata__", {}), path)
        names = [*header, *empty]
        self.separator = separator_of(names)
        contents.check_number_of_leaves(len(names), path)
        leaves: dict[Path, Leaf] = {}
        self._spans: dict[Path, tuple[contents.Span, ...]] = {}
        for name, place in zip(names, _paths(names), strict=True):
            where = f"{path}: {written(place)}"
            contents.check_name(name, path)
            if place in leaves:
                raise InputError(f"{where}: is there twice")
            if name in empty:
                leaves[place] = nothing(empty[name])
                continue
            leaves[place] = _leaf(header[name], where)
            begin, end = header[name]["data_offsets"]
            self._spans[place] = ((start + begin, end - begin),)
        contents.nested(leaves, path)
        self.leaves: Leaves = leaves

    def read(self, path: Path) -> np.ndarray:
        """The numbers of a leaf, as `Reader.read` says."""
        where = f"leaf {written(path)}"
        return contents.read_spans(self.path, self._spans[path], self.leaves[path], where)


def open_safetensors(path: str) -> SafetensorsReader:
    """The checkpoint in a safetensors file. No numbers are read.

    Raises:
      InputError: there is no such file, or its names or dtypes are none of a tree of arrays.
      FileAccessError: the system refuses to read it.
      CorruptFileError: it is damaged.
    """
    return SafetensorsReader(path)


def write_safetensors(target: str, leaves: Leaves, read: Read, separator: str = "") -> None:
    """Writes a safetensors file, as `Writer` says.

    The names in a path are joined by `separator`, without one by `.`, as users of Flax do; where
    names hold that, by the other of `.` and `/`. A typed key is an array of uint32; what is empty
    is noted beside the arrays.
    """
    check_safetensors(leaves)
    names = _names(leaves, separator)
    spans = _spans(leaves)
    metadata = {"format": "flax"}
    empty = {names[path]: leaf.empty for path, leaf in leaves.items() if leaf.kind == "empty"}
    if empty:
        metadata[EMPTY_LEAVES] = json.dumps(empty)
    header = json.dumps(
        {"__metadata__": metadata}
        | {
            names[path]: {
                "dtype": NAMES[leaves[path].dtype.name],
                "shape": leaves[path].shape,
                "data_offsets": (begin, begin + length),
            }
            for path, (begin, length) in spans.items()
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    start = 8 + len(header)
    with contents.created(target) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for path, (begin, _) in spans.items():
            file.seek(start + begin)
            file.write(contents.as_bytes(contents.numbers_of(path, leaves[path], read)))


def check_safetensors(leaves: Leaves) -> None:
    """Stops at what the format cannot hold.

    Raises:
      InputError: the leaf is named.
    """
    contents.nested(leaves)
    _names(leaves)
    for path, leaf in leaves.items():
        if leaf.kind != "empty" and leaf.dtype.name not in NAMES:
            raise InputError(
                f"{written(path)}: safetensors has no dtype {leaf.dtype.name}; use --format=orbax"
            )


def _spans(leaves: Leaves) -> dict[Path, contents.Span]:
    """Where after the header each leaf goes: those of wide dtypes first, so all are aligned."""
    stored = {path: leaf for path, leaf in leaves.items() if leaf.kind != "empty"}
    begins, at = {}, 0
    for path, leaf in sorted(stored.items(), key=lambda item: -item[1].dtype.itemsize):
        begins[path] = at
        at += leaf.nbytes
    return {path: (begins[path], leaf.nbytes) for path, leaf in stored.items()}


def _names(leaves: Leaves, first: str = "") -> dict[Path, str]:
    """The flat names of leaves, from which their paths can be told again."""
    texts: list[Path] = [tuple(map(str, path)) for path in leaves]
    for separator in ("/", ".") if first == "/" else (".", "/"):
        names = [separator.join(map(str, path)) for path in texts]
        if list(_paths(names)) == texts and "__metadata__" not in names:
            return dict(zip(leaves, names, strict=True))
    unclear = next((p for p in leaves if any(c in str(n) for n in p for c in "./")), None)
    raise InputError(
        f"{written(unclear or next(iter(leaves)))}: safetensors has flat names only, in which this "
        f"one could not be told from others; use --format=orbax"
    )


def _paths(names: Iterable[str]) -> list[Path]:
    names = list(names)
    separator = separator_of(names)
    return [tuple(name.split(separator)) for name in names]


def _header(path: str) -> tuple[dict, int]:
    """What stands before the arrays, which the library has found to fit the file; and its end."""
    with contents.opened(path) as (file, size):
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or 8 + length > size:
            raise contents.truncated(path, size, 8 + length if len(first) == 8 else 8)
        if length > MAX_HEADER_BYTES:
            raise InputError(
                f"{path}: a header of {length:,} bytes; the limit is {MAX_HEADER_BYTES:,}"
            )
        text = file.read(length)
    try:
        with safe_open(path, framework="np") as checked:
            contents.check_number_of_leaves(len(checked.keys()), path)
        return json.loads(text), 8 + length
    except SafetensorError as error:
        _check_claims(path, text, size)
        raise CorruptFileError(f"{path}: its header is damaged: {first_line(error)}") from error


def _check_claims(path: str, text: bytes, size: int) -> None:
    """Stops at an array that cannot be, or that the file ends before, if that is what is wrong."""
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        for name, tensor in header.items():
            contents.checked_shape(
                tensor["shape"], DTYPES[tensor["dtype"]], f"{path}: {str(name)[:200]}"
            )
        ends = [tensor["data_offsets"][1] for tensor in header.values()]
        needed = 8 + len(text) + max(ends, default=0)
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return
    if size < needed:
        raise contents.truncated(path, size, needed)


def _leaf(tensor: Mapping, where: str) -> Leaf:
    if tensor["dtype"] not in DTYPES:
        raise InputError(f"{where}: its dtype {tensor['dtype']} has less than a byte to a number")
    dtype = DTYPES[tensor["dtype"]]
    return Leaf(contents.checked_shape(tensor["shape"], dtype, where), dtype)


def _empty_leaves(metadata: Mapping[str, str], path: str) -> dict[str, str]:
    """Of the leaves that are empty, by their names, what is there."""
    try:
        empty = json.loads(metadata.get(EMPTY_LEAVES, "{}"))
        return {str(name): str(what) for name, what in empty.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise CorruptFileError(
            f"{path}: what it says of empty leaves is damaged: {first_line(error)}"
        ) from error
