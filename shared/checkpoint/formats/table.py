"""Which format a checkpoint is in, and the readers and writers of all formats."""

import os
import re
from collections.abc import Callable, Mapping

from shared.checkpoint.formats import contents
from shared.checkpoint.formats.flax_msgpack import check_msgpack, open_msgpack, write_msgpack
from shared.checkpoint.formats.npz import open_npz
from shared.checkpoint.stored import Leaves, OnDisk, Path, Read, Reader, Stored, Writer
from shared.errors import FileAccessError, InputError

# What `flax.training.checkpoints` calls a checkpoint: a file of msgpack, or a folder of Orbax.
_LEGACY = re.compile(r"checkpoint_(\d+)")
# A part of a tree that a model hub keeps in several files.
_PART = re.compile(r"-\d{5}-of-\d{5}\.\w+$")
# The safetensors library reads no longer header.
_LONGEST_HEADER = 10**8


def open_orbax(path: str, step: int | None = None) -> Reader:
    """The reader of Orbax's checkpoints, whose libraries only it needs."""
    from shared.checkpoint.formats import orbax

    return orbax.open_orbax(path, step)


def write_orbax(
    target: str,
    leaves: Leaves,
    read: Read,
    there: Mapping[Path, Stored] | None = None,
    on_disk: OnDisk = lambda path, values: None,
) -> None:
    """The writer of Orbax's checkpoints, which goes on where some leaves are there already."""
    from shared.checkpoint.formats import orbax

    orbax.write_orbax(target, leaves, read, there or {}, on_disk)


def open_safetensors(path: str) -> Reader:
    """The reader of safetensors, whose library only it needs."""
    from shared.checkpoint.formats import safe_tensors

    return safe_tensors.open_safetensors(path)


def write_safetensors(target: str, leaves: Leaves, read: Read, separator: str = "") -> None:
    """The writer of safetensors, whose names are joined by what is asked for."""
    from shared.checkpoint.formats import safe_tensors

    safe_tensors.write_safetensors(target, leaves, read, separator)


FORMATS = ("orbax", "safetensors", "msgpack", "npz")
# Where a leaf can be read, and is written, in parts: it need not be in memory as a whole.
IN_PARTS = ("orbax",)
WRITERS: Mapping[str, Writer] = {
    "orbax": write_orbax,
    "safetensors": write_safetensors,
    "msgpack": write_msgpack,
}
_OF_FILES: Mapping[str, Callable[[str], Reader]] = {
    "safetensors": open_safetensors,
    "msgpack": open_msgpack,
    "npz": open_npz,
}


def check_can_hold(format_name: str, leaves: Leaves) -> None:
    """Stops at a leaf that a format cannot hold, before anything is written.

    Raises:
      InputError: the leaf is named.
    """
    if format_name == "orbax":
        from shared.checkpoint.formats.orbax_names import check_writable

        check_writable(leaves)
    elif format_name == "safetensors":
        from shared.checkpoint.formats.safe_tensors import check_safetensors

        check_safetensors(leaves)
    else:
        check_msgpack(leaves)


def open_checkpoint(path: str, step: int | None = None, dtype: str = "") -> Reader:
    """The checkpoint at `path`, in whichever format; no numbers are read.

    Args:
      path: a file, or a folder of Orbax or of `flax.training.checkpoints`.
      step: which one of those in a folder; it may be left out where there is one.
      dtype: of arrays of a .npz that NumPy saved as bytes of anything, "bfloat16".

    Raises:
      InputError: there is none, or several; or it cannot be used.
      FileAccessError: the system refuses to read it.
      CorruptFileError: it is damaged.
    """
    path = os.fspath(path)
    if not _is_folder(path):
        format_name = format_of_file(path)
        if step is not None:
            raise InputError(f"{path}: is a file, of which there are no steps; leave out --step")
        if dtype and format_name == "npz":
            return open_npz(path, dtype)
        _no_dtype(path, dtype)
        return _OF_FILES[format_name](path)
    _no_dtype(path, dtype)
    legacy = _legacy_steps(path)
    if not legacy:
        return open_orbax(path, step)
    if step is None and len(legacy) > 1:
        raise InputError(f"{path}: holds the steps {_listed(legacy)}; choose one with --step=N")
    chosen = next(iter(legacy)) if step is None else step
    if chosen not in legacy:
        raise InputError(f"{path}: has no step {chosen}; it has {_listed(legacy)}")
    return open_checkpoint(os.path.join(path, legacy[chosen]))


def _no_dtype(path: str, dtype: str) -> None:
    if dtype:
        raise InputError(
            f"{path}: --dtype={dtype} is of .npz files, which lose it; nothing is cast: leave it "
            f"out"
        )


def format_of_file(path: str) -> str:
    """Which of `FORMATS` a file is in, by its first bytes.

    Raises:
      InputError: it is in none of them.
    """
    with contents.opened(path) as (file, size):
        first = file.read(16)
    if _PART.search(path):
        raise InputError(f"{path}: is one part of a tree in several files; join them before")
    if first[8:9] == b"{" and int.from_bytes(first[:8], "little") <= _LONGEST_HEADER:
        return "safetensors"
    if first.startswith(b"PK"):
        return "npz"
    if _is_map_of_names(first):
        return "msgpack"
    raise InputError(f"{path}: is no checkpoint (first bytes {first!r}){_guess(path, first, size)}")


def _guess(path: str, first: bytes, size: int) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.lexists(os.path.join(folder, "_METADATA")):
        return f"; it is a file of an Orbax checkpoint: name the folder, {folder}"
    if not size:
        return "; it is empty"
    if _is_pickle(first):
        return "; it looks like a pickle, which could run code and is refused"
    if first.startswith(b"version https://"):
        return "; it looks like a pointer of Git LFS: get the file itself with git lfs pull"
    if first.lstrip()[:1] in (b"<", b"{"):
        return "; it looks like a text or a web page: download the file itself"
    return f"; formats that are read are {', '.join(FORMATS)}"


def _is_map_of_names(first: bytes) -> bool:
    """Whether a file begins as a map of msgpack does, its first key a text."""
    if not first:
        return False
    header = {0xDE: 3, 0xDF: 5}.get(first[0], 1 if first[0] & 0xF0 == 0x80 else 0)
    key = first[header : header + 1]
    return header > 0 and (not key or 0xA0 <= key[0] <= 0xBF or 0xD9 <= key[0] <= 0xDB)


def _is_pickle(first: bytes) -> bool:
    """Whether a file begins as a pickle does: with the number of its protocol."""
    return len(first) > 2 and first[0] == 0x80 and 2 <= first[1] <= 5


def _is_folder(path: str) -> bool:
    try:
        return os.path.isdir(path)
    except ValueError as error:  # a path with a NUL
        raise InputError(f"{path!r}: is no path") from error


def _legacy_steps(path: str) -> dict[int, str]:
    """The checkpoints of `flax.training.checkpoints` in a folder, by their steps, in order."""
    try:
        names = os.listdir(path)
    except OSError as error:
        raise FileAccessError(f"{path}: cannot be read: {error.strerror or error}") from error
    found = {int(match[1]): match[0] for match in map(_LEGACY.fullmatch, names) if match}
    return dict(sorted(found.items()))


def _listed(steps: Mapping[int, str]) -> str:
    shown = ", ".join(map(str, list(steps)[:20]))
    return shown + (f", ... ({len(steps):,} in all)" if len(steps) > 20 else "")
