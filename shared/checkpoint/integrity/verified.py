"""Whether a checkpoint is what its manifest says, byte by byte."""

from collections.abc import Iterator

import numpy as np

from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaf, Parts, Path, Reader
from shared.errors import CorruptFileError
from shared.files.digest import sha256_of, sha256_of_parts

# The other formats hold numbers by name: what else a leaf is, their manifest alone says.
KEEP_KINDS = ("orbax",)
_SHOWN = 5


def check(manifest: Manifest, reader: Reader) -> None:
    """Stops where a checkpoint is not what was written; all its leaves are read, one by one.

    Raises:
      CorruptFileError: a leaf is missing, extra, of another dtype or shape, or has other bytes.
      FileAccessError: the system refuses to read it.
    """
    stop_at(list(problems(manifest, reader)), reader.path)


def stop_at(found: list[str], path: str) -> None:
    """Stops if any problem was found in the checkpoint at `path`.

    Raises:
      CorruptFileError: the first few of them.
    """
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise CorruptFileError(
            f"{path}: is damaged: {'; '.join(found[:_SHOWN])}{more}; copy it again, or use an "
            f"older one"
        )


def problems(manifest: Manifest, reader: Reader) -> Iterator[str]:
    """How a checkpoint differs from what was written, one leaf after another.

    Raises:
      CorruptFileError: a leaf cannot be read.
      FileAccessError: the system refuses to read it.
    """
    yield from problems_of_header(manifest, reader)
    for path, row in rows_of(manifest, reader).items():
        want, have = _held(manifest.leaves[row], reader), _held(reader.leaves[path], reader)
        if want == have and manifest.leaves[row].kind != "empty":
            problem = problem_of(manifest, row, reader.read(path))
            if problem:
                yield problem


def problems_of_header(manifest: Manifest, reader: Reader) -> Iterator[str]:
    """As `problems`, of what is known before any leaf is read."""
    rows = rows_of(manifest, reader)
    for path in reader.leaves.keys() - rows.keys():
        yield f"{written(path)} was not written"
    for row in manifest.leaves.keys() - set(rows.values()):
        if reader.format in KEEP_KINDS or manifest.leaves[row].kind != "empty":
            yield f"{written(row)} is missing"
    for path, row in rows.items():
        want, have = _held(manifest.leaves[row], reader), _held(reader.leaves[path], reader)
        if want != have:
            yield f"{written(row)} is {_shown(have)}, was written as {_shown(want)}"


def problem_of(manifest: Manifest, row: Path, array: np.ndarray) -> str:
    """How the numbers of a leaf differ from those written; "" if they do not.

    Args:
      row: the path that it has in the manifest.
      array: its numbers.
    """
    leaf = manifest.leaves[row]
    if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
        return f"{written(row)} is {array.dtype}{list(array.shape)}, was written as {_shown(leaf)}"
    return _problem_of_bytes(manifest, row, sha256_of(array))


def problem_of_parts(manifest: Manifest, row: Path, parts: Parts) -> str:
    """As `problem_of`, where shape and dtype are known to be those written."""
    return _problem_of_bytes(manifest, row, sha256_of_parts(parts))


def _problem_of_bytes(manifest: Manifest, row: Path, sha256: str) -> str:
    return (
        ""
        if sha256 == manifest.sha256[row]
        else f"{written(row)} has other bytes than were written"
    )


def rows_of(manifest: Manifest, reader: Reader) -> dict[Path, Path]:
    """{path of a leaf: its path in the manifest}, of those that are in both.

    A format that has no numbers in paths gives them as text.
    """
    rows = {_name(row, reader): row for row in manifest.leaves}
    if len(rows) < len(manifest.leaves):
        raise CorruptFileError(
            f"{reader.path}: two leaves of its manifest have one name in {reader.format}"
        )
    named = {path: _name(path, reader) for path in reader.leaves}
    return {path: rows[name] for path, name in named.items() if name in rows}


def _name(path: Path, reader: Reader) -> Path:
    return path if reader.format in KEEP_KINDS else tuple(map(str, path))


def _held(leaf: Leaf, reader: Reader) -> Leaf:
    """What a format keeps of it."""
    if reader.format in KEEP_KINDS:
        return leaf
    return Leaf(leaf.shape, leaf.dtype)


def _shown(leaf: Leaf) -> str:
    text = f"{leaf.dtype.name}{list(leaf.shape)}"
    if leaf.kind == "empty":
        text = leaf.empty
    return f"{text} ({leaf.kind} {leaf.key_impl}".rstrip() + ")"
