"""Plain trees: nested dicts of arrays, each leaf called by its path: `params/Dense_0/kernel`."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from shared.errors import InputError


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """{"params": {"kernel": leaf}} -> {"params/kernel": leaf}, sorted by path.

    A name may hold the separator, as those of `nn.WeightNorm` do: it is written as in a JSON
    pointer (RFC 6901), `/` as `~1` and `~` as `~0`.
    """
    leaves = traverse_util.flatten_dict(tree)
    return {"/".join(map(_escape, names)): leaves[names] for names in sorted(leaves)}


def _escape(name: Any) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return traverse_util.unflatten_dict(
        {
            tuple(name.replace("~1", "/").replace("~0", "~") for name in path.split("/")): leaf
            for path, leaf in leaves.items()
        }
    )


def check_same_shapes(expected: Mapping[str, Any], received: Mapping[str, Any]) -> None:
    """Stops at leaves that are missing, extra of another shape or not floating, all listed.

    Raises:
      InputError: the two trees differ in a path or a shape, or a number is not floating.
    """
    want, have = flatten(expected), flatten(received)
    problems = [f"{path}: missing, expected {want[path].shape}" for path in want.keys() - have]
    problems += [f"{path}: unexpected" for path in have.keys() - want]
    problems += [
        f"{path}: expected {want[path].shape}, received {np.shape(have[path])}"
        for path in want.keys() & have.keys()
        if tuple(want[path].shape) != np.shape(have[path])
    ]
    problems += [
        f"{path}: expected floating numbers, received {jnp.result_type(have[path])}"
        for path in want.keys() & have.keys()
        if not jnp.issubdtype(jnp.result_type(have[path]), jnp.floating)
    ]
    if problems:
        raise InputError("variables do not fit the model: " + "; ".join(sorted(problems)))
