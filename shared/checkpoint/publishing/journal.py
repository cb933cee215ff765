"""What of a target is on the disk, so that a conversion that was killed is gone on with.

Lines of JSON in a file beside what is written: the first says what is being made of what, each
other one is of a leaf that is on the disk. It is gone when the target is there.
"""

import base64
import dataclasses
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from shared.checkpoint.stored import Path, Place, Stored
from shared.errors import FileAccessError, printable

# Of the name of what is written.
SUFFIX = ".journal"
# A leaf takes about 500 bytes.
LARGEST_BYTES = 2**28
_FILE = re.compile(r"d/[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A leaf that is on the disk.

    Attributes:
      values: as the format stores it.
      made: the SHA-256 of its bytes.
      read: {leaf of the source: that of its bytes}, of what it is made of.
      not_finite: {leaf of the source: how many of its numbers are NaN or infinite}.
    """

    values: Stored
    made: str
    read: Mapping[Path, str]
    not_finite: Mapping[Path, int]


class Journal:
    """The leaves of a target that are on the disk.

    Attributes:
      entries: {leaf of the target: what is known of it}, of what an earlier process has written.
    """

    def __init__(self, new: str, location: str, identity: str):
        """That of what is written to `new`, the arrays of it to the directory `location`.

        What another process has written is taken only if `identity` is the same, and of it what
        its files hold.
        """
        self._path, self._new, self._location = new + SUFFIX, new, location
        self._first_line = json.dumps({"identity": identity}) + "\n"
        self._lock = threading.Lock()
        lines = self._lines()
        self.entries = dict(self._read(lines)) if lines[:1] == [self._first_line.encode()] else {}

    def add(self, leaf: Path, entry: Entry) -> None:
        """Notes a leaf whose files are on the disk.

        Raises:
          OSError: the system refuses.
        """
        line = json.dumps(_row_of(leaf, entry)) + "\n"
        with self._lock, open(self._path, "a", encoding="utf-8") as file:
            if not file.tell():
                file.write(self._first_line)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def clear(self) -> None:
        """Removes what was written and is not known to be on the disk; writes the rest anew.

        Raises:
          OSError: the system refuses.
        """
        ends = self._ends()
        for folder, _, names in os.walk(self._new, topdown=False):
            for name in names:
                path = os.path.join(folder, name)
                if path in ends:
                    os.truncate(path, ends[path])
                else:
                    os.unlink(path)
            if not os.listdir(folder):
                os.rmdir(folder)
        os.unlink(self._path)
        for leaf, entry in self.entries.items():
            self.add(leaf, entry)

    def _ends(self) -> dict[str, int]:
        """{file: where the last value in it ends}."""
        found: dict[str, int] = {}
        for entry in self.entries.values():
            for file, offset, length in _places(entry):
                path = os.path.join(self._location, file)
                found[path] = max(found.get(path, 0), offset + length)
        return found

    def _lines(self) -> list[bytes]:
        try:
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_size > LARGEST_BYTES:
                    return []
                return file.readlines()
        except OSError:
            return []  # the conversion begins anew

    def _read(self, lines: list[bytes]) -> Iterator[tuple[Path, Entry]]:
        for line in lines[1:]:
            try:
                leaf, entry = _entry_of(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                return  # it was killed while it wrote this line
            if all(self._is_there(place) for place in _places(entry)):
                yield leaf, entry

    def _is_there(self, place: Place) -> bool:
        file, offset, length = place
        path = os.path.join(self._location, file)
        return os.path.isfile(path) and os.path.getsize(path) >= offset + length


def identity_of(source: str, what: str) -> str:
    """A digest of what is being made of what: another one after any change of either.

    Args:
      source: the file or directory that is read.
      what: is to be made of it.

    Raises:
      FileAccessError: the system refuses to tell of a file.
    """
    paths = [source]
    if os.path.isdir(source):
        paths = sorted(
            os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names
        )
    files = []
    for path in paths:
        try:
            # A link that leads nowhere is none of the checkpoint's files.
            found = os.stat(path, follow_symlinks=os.path.exists(path))
        except OSError as error:
            reason = error.strerror or error
            raise FileAccessError(f"{printable(path)}: cannot be read: {reason}") from error
        files.append([path, found.st_ino, found.st_size, found.st_mtime_ns])
    return hashlib.sha256(json.dumps([os.path.realpath(source), files, what]).encode()).hexdigest()


def _places(entry: Entry) -> list[Place]:
    return [value for value in entry.values.values() if not isinstance(value, bytes)]


def _row_of(leaf: Path, entry: Entry) -> dict[str, Any]:
    return {
        "leaf": leaf,
        "values": {
            key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for key, value in entry.values.items()
        },
        "made": entry.made,
        "read": list(entry.read.items()),
        "not_finite": list(entry.not_finite.items()),
    }


def _entry_of(row: Any) -> tuple[Path, Entry]:
    values = {
        key: base64.b64decode(value, validate=True) if isinstance(value, str) else _place_of(value)
        for key, value in row["values"].items()
    }
    read, not_finite = (
        {tuple(path): value for path, value in row[name]} for name in ("read", "not_finite")
    )
    return tuple(row["leaf"]), Entry(values, row["made"], read, not_finite)


def _place_of(value: Any) -> Place:
    file, offset, length = value
    if not _FILE.fullmatch(file) or not (type(offset) is type(length) is int):
        raise ValueError(f"{value} is no place")
    return file, offset, length
