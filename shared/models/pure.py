"""A model as a pure function over named arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class PureModel:
    """One model of a pair as a pure function.

    Attributes:
      name: "linen" or "nnx".
      leaves: {path: shape and dtype} of every weight; a path starts with its collection.
      rng_leaves: paths of random state, which has no counterpart in Linen's variables.
      apply: (leaves, inputs) -> (outputs, updates). Updates are the collections other than
        `params` after the call, and what was sown.
    """

    name: str
    leaves: dict[str, jax.ShapeDtypeStruct]
    rng_leaves: tuple[str, ...]
    apply: Callable[[Mapping[str, Any], tuple], tuple[Any, dict[str, Any]]]


def plain(updates: Mapping[str, Any]) -> dict[str, Any]:
    """What is sown is a tuple, one value for each call: each is a leaf."""
    plain = {}
    for path, value in updates.items():
        if isinstance(value, tuple):
            plain.update({f"{path}/{i}": one for i, one in enumerate(value)})
        else:
            plain[path] = value
    return plain
