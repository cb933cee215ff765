"""Which leaves Orbax can hold, under which names and in which chunks: known before writing."""

import tensorstore as ts

from shared.checkpoint.formats.contents import is_unicode
from shared.checkpoint.formats.orbax_metadata import EMPTY, KINDS, is_below
from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaf, Leaves, Path
from shared.errors import InputError, printable

# Chunks are not compressed: Zstandard takes 8 % off weights of float32 and 22 % off those of
# bfloat16, at 0.8 s of a core for each GB and 0.7 s to read it back, which is as much as all else.
# A part of an array that is of this size is written, and read, without the rest.
CHUNK = 2**24


def name_of(path: Path) -> str:
    """What the array of a leaf is stored under."""
    return ".".join(map(str, path))


def chunks_of(leaf: Leaf) -> tuple[int, ...]:
    """The shape of the chunks of a leaf, which one after another are its numbers in C's order.

    They are of at most `CHUNK` bytes each, and so many that the last one along the axis that is
    divided is hardly shorter than the others.
    """
    chunks, size = list(leaf.shape), leaf.nbytes
    for axis, length in enumerate(leaf.shape):
        if size <= CHUNK:
            break
        row = size // length
        count = -(-length // max(1, CHUNK // row))
        chunks[axis] = -(-length // count)
        size = row
        if chunks[axis] > 1:
            break
    return tuple(chunks)


def check_writable(leaves: Leaves) -> None:
    """Stops at what Orbax cannot hold, or would not give back as it was.

    Raises:
      InputError: the leaf is named.
    """
    if all(leaf.kind == "empty" for leaf in leaves.values()):
        raise InputError("Orbax holds no checkpoint without numbers; there is nothing to write")
    seen: dict[str, Path] = {}
    for path, leaf in leaves.items():
        where = f"leaf {printable(written(path))}"
        _check_leaf(where, leaf)
        for key in path:
            if isinstance(key, str) and not is_unicode(key):
                raise InputError(f"{where}: the name {printable(key)} is not Unicode; rename it")
            if isinstance(key, str) and not is_below(key):
                raise InputError(
                    f"{where}: the name {printable(key)} would lead out of a checkpoint; rename it"
                )
        if not path:
            raise InputError("Orbax holds no array without a name; put it into a dictionary")
        other = seen.setdefault(name_of(path), path)
        if other != path:
            raise InputError(
                f"{where} and {printable(written(other))} would both be stored as "
                f"{printable(name_of(path))}, and one be lost; rename one of them"
            )
    _check_tree(leaves)


def _check_leaf(where: str, leaf: Leaf) -> None:
    if leaf.kind == "empty":
        if leaf.empty not in EMPTY:
            raise InputError(f"{where}: Orbax has no {leaf.empty}, expected one of {EMPTY}")
        return
    if leaf.kind not in (*KINDS.values(), "key"):
        raise InputError(f"{where}: Orbax has no leaf of kind {leaf.kind}")
    if 0 in leaf.shape:
        raise InputError(
            f"{where}: {leaf.shape} is an array without numbers, which Orbax cannot hold; leave it "
            f"out"
        )
    if leaf.kind == "key" and (leaf.dtype.name != "uint32" or not leaf.key_impl):
        raise InputError(f"{where}: a PRNG key of {leaf.dtype}, expected uint32 and its name")
    try:
        ts.dtype(leaf.dtype)
    except (TypeError, ValueError):
        raise InputError(f"{where}: Orbax cannot hold {leaf.dtype}; convert it first") from None
    if leaf.dtype.kind in "OSUMm" or leaf.dtype.names:
        raise InputError(f"{where}: {leaf.dtype} is no number, which Orbax cannot hold")


def _check_tree(leaves: Leaves) -> None:
    """Stops where the paths are not those of one tree of dictionaries and sequences."""
    keys: dict[Path, set[str | int]] = {}
    for path in leaves:
        for depth, key in enumerate(path):
            keys.setdefault(path[:depth], set()).add(key)
    for node, below in keys.items():
        where = f"leaf {printable(written(node))}"
        numbers = {key for key in below if isinstance(key, int)}
        if node in leaves:
            raise InputError(f"{where}: has leaves below it; rename one of them")
        if numbers and numbers != set(range(len(below))):
            raise InputError(
                f"{where}: a sequence of {len(below)} that is not numbered from 0 to "
                f"{len(below) - 1}; give it all its members, or names"
            )
