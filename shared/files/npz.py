"""The .npz format: a zip archive of .npy members. Their names are never used as paths."""

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

from shared.errors import CorruptFileError, InputError, first_line
from shared.files import limits
from shared.files.npy import read_npy

# What a zip ends with, and where in that the size of its list of members stands.
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
# A comment may follow.
_LONGEST_END = 2**16 + 2**7
# In the list of members: with a name that is not absurdly long.
_BYTES_OF_A_MEMBER = 128


@contextlib.contextmanager
def open_archive(file: IO[bytes], path: str, max_members: int) -> Iterator[zipfile.ZipFile]:
    """The archive in a file; what is wrong with what is read of it inside is said in one line.

    Raises:
      InputError: it is none, is of a kind that NumPy does not write, or has too many members.
      CorruptFileError: it is damaged.
    """
    try:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            first = file.read(6)
            if first.startswith(b"PK"):
                raise CorruptFileError(
                    f"{path}: truncated: its end, where a zip lists its members, is missing"
                )
            raise InputError(f"{path}: not a NumPy .npz archive (first bytes {first!r})")
        if _size_of_list(file) > _BYTES_OF_A_MEMBER * max_members:
            raise InputError(f"{path}: too many members: the limit is {max_members:,}")
        with zipfile.ZipFile(file) as archive:
            number = len(archive.infolist())
            if number > max_members:
                raise InputError(f"{path}: {number:,} members, the limit is {max_members:,}")
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CorruptFileError(f"{path}: damaged archive: {first_line(error)}") from error
    except (NotImplementedError, RuntimeError) as error:  # encrypted, or an unknown compression
        raise InputError(f"{path}: {first_line(error)}; save it with numpy.savez") from error


def _size_of_list(file: IO[bytes]) -> int:
    """How many bytes list the members: all of them are read before one is known."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LONGEST_END))
    end = file.read()
    sizes = [
        int.from_bytes(end[at + offset : at + offset + width], "little")
        for at, offset, width in ((end.rfind(_END), 12, 4), (end.rfind(_END_64), 40, 8))
        if at >= 0
    ]
    return max((n for n in sizes if n != 2**32 - 1), default=0)


def read_npz(file: IO[bytes], path: str, key: str | None) -> tuple[np.ndarray, str]:
    """The array under `key`, or the only one, and its name as FILE.npz:key."""
    with open_archive(file, path, limits.MAX_NPZ_MEMBERS) as archive:
        member = _choose_member(archive, path, key)
        source = f"{path}:{member.filename.removesuffix('.npy')}"
        with archive.open(member) as stream:
            return read_npy(stream, member.file_size, source), source


def _choose_member(archive: zipfile.ZipFile, path: str, key: str | None) -> zipfile.ZipInfo:
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    if total > limits.MAX_BYTES:
        raise InputError(f"{path}: unpacks to {total:,} bytes, the limit is {limits.MAX_BYTES:,}")
    names = [member.filename.removesuffix(".npy") for member in members]
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    if not names:
        raise InputError(f"{path}: holds no array")
    if key is None and len(names) > 1:
        raise InputError(
            f"{path}: holds {len(names)} arrays; pick one as {path}:KEY, KEY of {shown}"
        )
    wanted = names[0] if key is None else key
    if names.count(wanted) != 1:
        raise InputError(
            f"{path}: holds {names.count(wanted)} arrays called {wanted!r}; it has {shown}"
        )
    return members[names.index(wanted)]
