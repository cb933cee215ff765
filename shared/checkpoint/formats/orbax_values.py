"""Where the values of an Orbax checkpoint are in its files: `params.kernel/0.0` and their like.

TensorStore says where, of its database (OCDBT) as of a plain directory; it reads no array here.
"""

import dataclasses
import os
import re
import stat
from collections.abc import Iterable, Mapping
from typing import Any

import tensorstore as ts

from shared.errors import CorruptFileError, FileAccessError, one_line, printable

# Of the file that the index begins with: it names the others.
LARGEST_BYTES = 2**26


@dataclasses.dataclass(frozen=True)
class Value:
    """A value: `length` bytes of `file` from `offset` on, or `inline`, where the index holds it."""

    file: str
    offset: int
    length: int
    inline: bytes | None = None

    def part(self, start: int, length: int) -> "Value":
        """Some of it, from `start` on."""
        if self.inline is not None:
            return Value("", 0, length, self.inline[start : start + length])
        return Value(self.file, self.offset + start, length)

    def read(self) -> bytes:
        """All of it; it is to be a small one.

        Raises:
          FileAccessError: the system refuses to read it.
        """
        if self.inline is not None:
            return self.inline
        try:
            with open(self.file, "rb") as file:
                file.seek(self.offset)
                return file.read(self.length)
        except OSError as error:
            raise unreadable(self.file, error) from error


Values = Mapping[str, Value]


def unreadable(path: str, error: OSError) -> FileAccessError:
    """What to raise where the system refuses to read."""
    return FileAccessError(f"{printable(path)}: cannot be read: {error.strerror or error}")


def values_of_database(directory: str) -> Values:
    """{key: value} of the database in a directory.

    Raises:
      CorruptFileError: it is missing, damaged, or ends early.
      FileAccessError: the system refuses to read it.
    """
    found: dict[str, Value] = {}
    sizes: dict[str, int] = {}
    for key, entry in _entries(directory):
        if "inline_value" in entry:
            content = entry["inline_value"]
            found[key] = Value("", 0, len(content), content)
            continue
        _, base, name, offset, length = _location(directory, entry["indirect_value"])
        file = os.path.join(directory, base, name)
        value = Value(file, int(offset), int(length))
        if file not in sizes:
            sizes[file] = _size(file)
        if value.offset + value.length > sizes[file]:
            raise CorruptFileError(
                f"{printable(file)}: truncated: holds {sizes[file]} bytes, expected at least "
                f"{value.offset + value.length}, for {printable(key)}; copy the checkpoint again"
            )
        found[key] = value
    return found


def values_of_files(directory: str, names: Iterable[str]) -> Values:
    """{key: value} of the arrays called `names`, each a directory of files.

    Raises:
      FileAccessError: the system refuses to read it.
    """
    found = {}
    for name in names:
        top = os.path.join(directory, name)
        for folder, _, files in os.walk(top):
            for file in files:
                path = os.path.join(folder, file)
                key = f"{name}/{os.path.relpath(path, top)}".replace(os.sep, "/")
                found[key] = Value(path, 0, _size(path))
    return found


def _entries(directory: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """The entries of all leaves of the database's tree."""
    size = _size(_manifest(directory))
    if size > LARGEST_BYTES:
        raise CorruptFileError(
            f"{printable(_manifest(directory))}: is damaged: {size:,} bytes, the limit is "
            f"{LARGEST_BYTES:,}; copy the checkpoint again"
        )
    store = ts.KvStore.open({"driver": "file", "path": os.path.join(directory, "")}).result()
    root = _dumped(store, directory, None)["versions"][-1]["root"]
    if "location" not in root:
        raise CorruptFileError(f"{_manifest(directory)}: holds nothing; copy the checkpoint again")
    nodes, seen = [(root["location"], b"")], set()
    while nodes:
        location, prefix = nodes.pop()
        _, base, name, *_ = _location(directory, location)
        _size(os.path.join(directory, base, name))
        if location in seen:
            raise CorruptFileError(f"{_manifest(directory)}: is damaged: its tree is a circle")
        seen.add(location)
        for entry in _dumped(store, directory, location)["entries"]:
            if "location" in entry:
                nodes.append((entry["location"], prefix + entry["subtree_common_prefix"]))
            else:
                yield (prefix + entry["key"]).decode("utf-8", "surrogateescape"), entry


def _dumped(store: ts.KvStore, directory: str, node: str | None) -> dict[str, Any]:
    try:
        return ts.ocdbt.dump(store, node).result()
    except MemoryError:
        raise
    except Exception as error:  # TensorStore has no classes of its own for what is damaged
        file = os.path.join(directory, *_location(directory, node)[1:3]) if node else ""
        raise failed(error, file or _manifest(directory)) from error


def _manifest(directory: str) -> str:
    return os.path.join(directory, "manifest.ocdbt")


def _location(directory: str, text: str) -> list[str]:
    """The parts of "value:BASE:FILE:OFFSET:LENGTH". No file outside of the directory is named."""
    parts = text.split(":")
    if len(parts) != 5 or any(part in ("", ".", "..") for part in _names(parts)):
        raise CorruptFileError(
            f"{printable(directory)}: its index names a file {printable(text)}, expected one below "
            f"the directory; this checkpoint was made to be read elsewhere, do not use it"
        )
    return parts


def _names(parts: list[str]) -> list[str]:
    base = parts[1].removesuffix("/")
    return [*(base.split("/") if base else []), *parts[2].split("/")]


def _size(file: str) -> int:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        raise CorruptFileError(
            f"{printable(file)}: is missing, and holds arrays; copy the checkpoint again"
        ) from None
    except OSError as error:
        raise unreadable(file, error) from error
    if not stat.S_ISREG(found.st_mode):  # what is a pipe would be waited for
        raise CorruptFileError(f"{printable(file)}: is not a file; copy the checkpoint again")
    return found.st_size


def failed(error: Exception, file: str, leaf: str = "") -> CorruptFileError | FileAccessError:
    """What to raise where TensorStore fails to read `file`, "" of the index, for `leaf`."""
    text, where = one_line(error), ": ".join(filter(None, [leaf, printable(file)]))
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if isinstance(error, OSError) or code:
        reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", None)
        return FileAccessError(f"{where}: cannot be read: {reason}")
    if file and not os.path.exists(file):
        return CorruptFileError(f"{where}: is missing; copy the checkpoint again")
    return CorruptFileError(
        f"{where}: is damaged: {text.split(' [')[0][:200]}; copy the checkpoint again"
    )
