"""Plain trees: nested dicts of arrays, each leaf called by its path: `params/Dense_0/kernel`."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util

from shared.errors import InputError


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """{"params": {"kernel": leaf}} -> {"params/kernel": leaf}, sorted by path."""
    return dict(sorted(traverse_util.flatten_dict(tree, sep="/").items()))


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return traverse_util.unflatten_dict(leaves, sep="/")


def check_same_shapes(expected: Mapping[str, Any], received: Mapping[str, Any]) -> None:
    """Stops at leaves that are missing, extra or of another shape, all listed at once.

    Raises:
      InputError: the two trees differ in a path or a shape.
    """
    want, have = flatten(expected), flatten(received)
    problems = [f"{path}: missing, expected {want[path].shape}" for path in want.keys() - have]
    problems += [f"{path}: unexpected" for path in have.keys() - want]
    problems += [
        f"{path}: expected {want[path].shape}, received {tuple(have[path].shape)}"
        for path in want.keys() & have
        if tuple(want[path].shape) != tuple(have[path].shape)
    ]
    if problems:
        raise InputError("variables do not fit the model: " + "; ".join(sorted(problems)))
