"""A model as a pure function over named arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class PureModel:
    """One model of a pair as a pure function.

    Attributes:
      name: "linen" or "nnx".
      leaves: {path: shape and dtype} of every weight; a path starts with its collection.
      rng_leaves: paths of random state, which has no counterpart in Linen's variables.
      apply: (leaves, inputs) -> (outputs, updates). Updates are the variables after the call, and
        what was sown; Linen cannot change `params`, which are not among them.
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


def arrays(outputs: Any) -> Any:
    """`outputs` with arrays in the place of Python's numbers."""
    return jax.tree.map(jnp.asarray, outputs)
