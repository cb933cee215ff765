"""Checkpoints that hold little, and what `convert` answers where it refuses one."""

import contextlib
import io
import os
import stat
from pathlib import Path

import numpy as np

from shared.checkpoint.formats.table import WRITERS, open_checkpoint
from shared.checkpoint.stored import Leaf, nothing
from shared.cli import main

PROGRAM = "composed-lifts: "
ERROR = f"{PROGRAM}error: "
# Beyond that a file is not read: one that holds no bytes on the disk may be of a gigabyte.
_LARGEST_READ = 2**22


def numbers(*shape, dtype=np.float32):
    """1, 2, 3, ... in a shape."""
    return (np.arange(np.prod(shape)) + 1).reshape(shape).astype(dtype)


DENSE = {"params/dense/kernel": numbers(2, 3), "params/dense/bias": numbers(3)}
MODEL = {**DENSE, "params/out/kernel": numbers(3, 3)}


def key_of(impl="threefry2x32", count=2):
    """A typed PRNG key."""
    return Leaf((count,), np.dtype(np.uint32), "key", impl)


def save(path, tree, format_name="orbax"):
    """Writes {path: array, Leaf of zeros, or None}; a path is a text with `/` or a tuple."""
    leaves, arrays = {}, {}
    for name, value in tree.items():
        place = tuple(name.split("/")) if isinstance(name, str) else name
        if value is None:
            leaves[place] = nothing()
        elif isinstance(value, Leaf):
            leaves[place], arrays[place] = value, np.zeros(value.shape, value.dtype)
        else:
            arrays[place] = np.asarray(value)
            leaves[place] = Leaf(arrays[place].shape, arrays[place].dtype)
    WRITERS[format_name](str(path), leaves, arrays.__getitem__)
    return path


def found(folder):
    """{name below a folder: what is there, with its bytes}."""
    return {path.relative_to(folder): _content(path) for path in sorted(Path(folder).rglob("*"))}


def _content(path):
    info = path.lstat()
    if path.is_symlink():
        return os.readlink(path)
    is_read = stat.S_ISREG(info.st_mode) and info.st_size < _LARGEST_READ
    return info.st_mode, path.read_bytes() if is_read else info.st_mtime_ns


def called(*words):
    """(exit code, stdout, the lines of stderr) of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue().splitlines()


def convert(source, *flags, target):
    """As `called`, of a conversion."""
    return called("convert", f"--source_path={source}", f"--target_path={target}", *flags)


def refusal(folder, source, *flags, target=None):
    """(exit code, the one line that is said); nothing in the folder has changed.

    Args:
      folder: in which the source is, and where the target would be.
      source: the checkpoint.
      flags: of `convert`.
      target: "target" in the folder if it is not given.
    """
    target = Path(folder) / "target" if target is None else target
    before = found(folder)
    code, out, lines = convert(source, *flags, target=target)
    assert code != 0
    assert out == ""
    assert len(lines) == 1, lines
    assert lines[0].startswith(ERROR)
    assert lines[0].isprintable()
    assert found(folder) == before
    return code, lines[0].removeprefix(ERROR)


def converted(source, *flags, target):
    """What is said of a conversion that is made, notes too; its target."""
    code, out, lines = convert(source, *flags, target=target)
    assert (code, [line for line in lines if not line.startswith(f"{PROGRAM}note: ")]) == (0, [])
    return out, lines


def assert_same_leaves(one, other):
    """Stops unless two checkpoints are the same leaf by leaf, bit for bit."""
    first, second = open_checkpoint(one), open_checkpoint(other)
    assert first.leaves == second.leaves
    for path, leaf in first.leaves.items():
        if leaf.kind != "empty":
            assert first.read(path).tobytes() == second.read(path).tobytes()
