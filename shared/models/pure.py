"""A model as a pure function over named arrays."""

import dataclasses
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shared.program.draws import Draws
from shared.program.source import Stack
from shared.program.traced_once import TracedOnce
from shared.trees import Key, Place


class Sources(NamedTuple):
    """Where the variables of a model come from.

    Attributes:
      made: {path: the user's lines that make it, innermost first}.
      named: {path: the same of those that set its metadata by a statement of their own}.
      lifted: {path: of the lines that make it those outside of a transform, that call it}.
    """

    made: Mapping[str, Stack]
    named: Mapping[str, Stack]
    lifted: Mapping[str, Stack]

    def of(self, path: str) -> Stack:
        """The lines that make the variable at `path`, or the variable that it is a piece of."""
        while path not in self.made and "/" in path:
            path = path.rsplit("/", 1)[0]
        return self.made.get(path, ())


@dataclasses.dataclass(frozen=True)
class PureModel:
    """One model of a pair as a pure function.

    Attributes:
      name: "linen" or "nnx".
      leaves: {path: shape and dtype} of every weight; a path starts with its collection.
      rng_leaves: paths of random state, which has no counterpart in Linen's variables.
      apply: (leaves, inputs) -> (outputs, updates). Updates are the variables after the call, and
        what was sown; Linen cannot change `params`, which are not among them.
      initial: (paths, inputs) -> {path: initial value} of these leaves, and of no others.
      used_in_call: collections of what the call sows and uses by itself: its outputs hold that.
      places: {path: where in the module it is} of leaves of which the path does not say it.
      draws: what it draws, by the paths of leaves that `apply` does not take; None where it draws
        nothing.
      init: ({}, inputs) -> {path: initial value}; None where that is not known as a program.
      in_training: `apply` as the model is called in training.
      switches: what `apply` met that is switched off at evaluation, when it was traced.
      axis_names: {path: the name of each axis} of the leaves that have a partitioning.
      sources: looks for the lines that make the variables; None where there are none.
      differentiated: its programs with gradients, by what they are of; see
        `shared.models.gradients`.
    """

    name: str
    leaves: dict[str, jax.ShapeDtypeStruct]
    rng_leaves: tuple[str, ...]
    apply: TracedOnce
    initial: Callable[[Collection[str], tuple], dict[str, Any]]
    places: Mapping[str, Place] = dataclasses.field(default_factory=dict)
    used_in_call: frozenset[str] = frozenset()
    draws: Draws | None = None
    init: TracedOnce | None = None
    in_training: TracedOnce | None = None
    switches: set[str] = dataclasses.field(default_factory=set)
    axis_names: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    sources: Callable[[], Sources] | None = None
    differentiated: dict[Hashable, TracedOnce] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )


class Pieces:
    """The arrays in variables that hold a tuple or a dict: the carry of a cell, what is sown.

    Attributes:
      leaves: {path: array}, that of a piece is the path of the variable and its place: `c/carry/0`.
      inside: {path: (path of the variable, keys in it)}.
    """

    def __init__(self, values: Mapping[str, Any]):
        self.leaves: dict[str, Any] = {}
        self.inside: dict[str, tuple[str, tuple[Key, ...]]] = {}
        self._parts: dict[str, tuple[list[str], Any]] = {}
        for path, value in values.items():
            found, tree = jax.tree_util.tree_flatten_with_path(value)
            names = [
                "/".join((path, *(jax.tree_util.keystr((key,), simple=True) for key in keys)))
                for keys, _ in found
            ]
            self.leaves.update(zip(names, (leaf for _, leaf in found), strict=True))
            self._parts[path] = names, tree
            for name, (keys, _) in zip(names, found, strict=True):
                self.inside[name] = path, tuple(map(_key, keys))

    def join(self, leaves: Mapping[str, Any]) -> dict[str, Any]:
        """{path: variable}, of those whose arrays are all among `leaves`."""
        return {
            path: tree.unflatten([leaves[name] for name in names])
            for path, (names, tree) in self._parts.items()
            if all(name in leaves for name in names)
        }


def _key(key: Any) -> Key:
    is_of_tuple = isinstance(key, jax.tree_util.SequenceKey)
    return key.idx if is_of_tuple else jax.tree_util.keystr((key,), simple=True)


def arrays(outputs: Any) -> Any:
    """`outputs` with arrays in the place of Python's numbers."""
    return jax.tree.map(jnp.asarray, outputs)


def described(inputs: Any) -> str:
    """The shapes and dtypes of the inputs of a call: `(float32[4,8],)`."""
    tree = jax.tree.map(lambda x: f"{x.dtype}[{','.join(map(str, x.shape))}]", inputs)
    return str(tree).replace("'", "")
