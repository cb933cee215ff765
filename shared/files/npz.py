"""The .npz format: a zip archive of .npy members. Their names are never used as paths."""

import zipfile
import zlib
from typing import IO

import numpy as np

from shared.errors import CorruptFileError, InputError, first_line
from shared.files import limits
from shared.files.npy import read_npy


def read_npz(file: IO[bytes], path: str, key: str | None) -> tuple[np.ndarray, str]:
    """The array under `key`, or the only one, and its name as FILE.npz:key."""
    try:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            first = file.read(6)
            if first.startswith(b"PK"):
                raise CorruptFileError(
                    f"{path}: truncated: its end, where a zip lists its members, is missing"
                )
            raise InputError(f"{path}: not a NumPy .npz archive (first bytes {first!r})")
        with zipfile.ZipFile(file) as archive:
            member = _choose_member(archive, path, key)
            source = f"{path}:{member.filename.removesuffix('.npy')}"
            with archive.open(member) as stream:
                return read_npy(stream, member.file_size, source), source
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CorruptFileError(f"{path}: damaged archive: {first_line(error)}") from error
    except (NotImplementedError, RuntimeError) as error:  # encrypted, or an unknown compression
        raise InputError(f"{path}: {first_line(error)}; save it with numpy.savez") from error


def _choose_member(archive: zipfile.ZipFile, path: str, key: str | None) -> zipfile.ZipInfo:
    members = archive.infolist()
    if len(members) > limits.MAX_NPZ_MEMBERS:
        raise InputError(
            f"{path}: {len(members):,} members, the limit is {limits.MAX_NPZ_MEMBERS:,}"
        )
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
