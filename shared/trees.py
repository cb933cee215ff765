"""Plain trees: nested dicts of arrays, each leaf called by its path: `params/Dense_0/kernel`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from flax.core import meta

from shared.errors import InputError

Key = str | int


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """{"params": {"kernel": leaf}} -> {"params/kernel": leaf}, sorted by path.

    A name may hold the separator, as those of `nn.WeightNorm` do: it is written as in a JSON
    pointer (RFC 6901), `/` as `~1` and `~` as `~0`.
    """
    leaves = traverse_util.flatten_dict(tree)
    return {
        "/".join(map(escape, names)): leaves[names]
        for names in sorted(leaves, key=lambda names: tuple(map(str, names)))
    }


def escape(name: Any) -> str:
    """A name as it is written in a path."""
    return str(name).replace("~", "~0").replace("/", "~1")


def unescape(name: str) -> str:
    """The inverse of `escape`."""
    return name.replace("~1", "/").replace("~0", "~")


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return traverse_util.unflatten_dict(
        {tuple(map(unescape, path.split("/"))): leaf for path, leaf in leaves.items()}
    )


def check_same_shapes(expected: Mapping[str, Any], received: Mapping[str, Any]) -> None:
    """Stops at leaves that are missing, extra, of another shape or not floating, all listed.

    Raises:
      InputError: the two trees differ in a path or a shape, or a number is not floating where the
        expected one is.
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
        if jnp.issubdtype(want[path].dtype, jnp.floating)
        and not jnp.issubdtype(jnp.result_type(have[path]), jnp.floating)
    ]
    if problems:
        raise InputError("variables do not fit the model: " + "; ".join(sorted(problems)))


class Place(NamedTuple):
    """Where a leaf is.

    Attributes:
      keys: from the root module to the variable; those of `nnx.List` are numbers.
      inside: from the variable to the leaf, where it holds several; those of a tuple are numbers.
    """

    keys: tuple[Key, ...]
    inside: tuple[Key, ...] = ()


def place_of(path: str) -> Place:
    """That of a leaf of which nothing but its path is known, `params/dense/kernel`."""
    return Place(tuple(map(unescape, path.split("/")[1:])))


def module_tree(leaves: Mapping[str, Any], places: Mapping[str, Place]) -> dict[Key, Any]:
    """The leaves as the pure dict of the module: what `nnx.to_pure_dict` makes of its state."""
    tree: dict[Key, Any] = {}
    variables: dict[tuple[Key, ...], dict[tuple[Key, ...], Any]] = {}
    for path, leaf in leaves.items():
        keys, inside = places.get(path) or place_of(path)
        variables.setdefault(keys, {})[inside] = leaf
    for keys, pieces in variables.items():
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = _joined(pieces)
    return tree


def _joined(pieces: Mapping[tuple[Key, ...], Any]) -> Any:
    """The value of a variable, of all that is in it."""
    if () in pieces:
        return pieces[()]
    inner: dict[Key, dict[tuple[Key, ...], Any]] = {}
    for (key, *rest), leaf in pieces.items():
        inner.setdefault(key, {})[tuple(rest)] = leaf
    values = {key: _joined(each) for key, each in inner.items()}
    if all(isinstance(key, int) for key in values):
        return tuple(values[i] for i in range(len(values)))
    return values


def leaves_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """{path: array} of variables by collection, also of those that hold a tuple: `c/carry/0`.

    Metadata in the place of an array, the names of its axes say, is left out.
    """
    return {
        "/".join((path, *(jax.tree_util.keystr((key,), simple=True) for key in keys))): leaf
        for path, value in flatten(meta.unbox(variables)).items()
        for keys, leaf in jax.tree_util.tree_flatten_with_path(value, is_leaf=_is_array)[0]
    }


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape")
