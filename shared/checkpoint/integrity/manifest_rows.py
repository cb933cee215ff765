"""A leaf as it stands in a manifest."""

import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401, with it NumPy knows bfloat16 by name
import numpy as np

from shared.checkpoint.stored import Leaf, Path

KINDS = ("array", "numpy", "scalar", "key", "empty")
_SHA256 = re.compile("[0-9a-f]{64}")


def row_of(path: Path, leaf: Leaf, sha256: str) -> dict[str, Any]:
    """A leaf in JSON's values."""
    return {
        "path": list(path),
        "shape": list(leaf.shape),
        "dtype": leaf.dtype.name,
        "kind": leaf.kind,
        "key_impl": leaf.key_impl,
        "empty": leaf.empty,
        "sha256": sha256,
    }


def path_of(row: Mapping[str, Any]) -> Path:
    """The path in a row.

    Raises:
      ValueError: it is none.
    """
    path = row["path"]
    if not isinstance(path, list) or not all(type(name) in (str, int) for name in path):
        raise ValueError(f"the path {str(path)[:80]!r} is not of names and numbers")
    return tuple(path)


def leaf_of(row: Mapping[str, Any]) -> Leaf:
    """The leaf in a row.

    Raises:
      ValueError: it is none.
      KeyError: a field is missing.
    """
    shape, kind = row["shape"], row["kind"]
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"the shape {str(shape)[:80]!r} is not of lengths")
    if kind not in KINDS:
        raise ValueError(f"the kind {str(kind)[:80]!r} is none of {', '.join(KINDS)}")
    if kind != "empty" and not _SHA256.fullmatch(row["sha256"]):
        raise ValueError(f"{str(row['path'])[:80]} has no SHA-256")
    impl, empty = row["key_impl"], row["empty"]
    for name, value, has in (("key_impl", impl, kind == "key"), ("empty", empty, kind == "empty")):
        if not isinstance(value, str) or bool(value) != has:
            raise ValueError(f"{name} of a leaf of kind {kind} is {str(value)[:80]!r}")
    return Leaf(tuple(shape), _dtype_of(row["dtype"]), kind, impl, empty)


def _dtype_of(name: str) -> np.dtype:
    dtype = np.dtype(name)
    if dtype.name != name or dtype.hasobject:
        raise ValueError(f"{name[:80]!r} is no dtype of numbers")
    return dtype
