"""An optax optimizer that keeps what it was given and what it returned, and its state by name."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Keys = tuple[Any, ...]
NameOf = Callable[[Keys], str]


class Recorded(NamedTuple):
    """The state of an optimizer with what the last call of it saw.

    Attributes:
      inner: the state of the optimizer itself.
      gradients: what it was given; updates: what it returned.
      calls: how often it was called.
    """

    inner: Any
    gradients: Any
    updates: Any
    calls: jax.Array


class NamedState(NamedTuple):
    """The state of an optimizer in parts.

    Attributes:
      moments: {place: {name of a param: array}} of what is kept for each param, such as `0.mu`.
      rest: {place: number} of what is one number, such as `0.count`.
      unnamed: the places of all else: which weight is meant there is not known.
    """

    moments: dict[str, dict[str, Any]]
    rest: dict[str, Any]
    unnamed: list[str]


def recording(tx: Any) -> optax.GradientTransformationExtraArgs:
    """`tx` with a `Recorded` as its state. What it returns is what `tx` returns."""
    if isinstance(tx, optax.MultiSteps):
        tx = tx.gradient_transformation()
    tx = optax.with_extra_args_support(tx)

    def init(params: Any) -> Recorded:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Recorded(tx.init(params), zeros, zeros, jnp.zeros((), jnp.int32))

    def update(gradients: Any, state: Recorded, params: Any = None, **extra: Any) -> Any:
        updates, inner = tx.update(gradients, state.inner, params, **extra)
        return updates, Recorded(inner, gradients, updates, state.calls + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def named(tree: Any, name_of: NameOf) -> dict[str, Any]:
    """{name: leaf}; `name_of` makes a name of the keys that lead to a leaf."""
    return {
        name_of(tuple(map(_key, path))): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_masked)[0]
        if not _is_masked(leaf)
    }


def with_leaves(tree: Any, leaves: dict[str, Any], name_of: NameOf) -> Any:
    """`tree` with the leaves that `leaves` has a name for, in the dtypes of `tree`."""

    def new(path: Any, old: Any) -> Any:
        name = name_of(tuple(map(_key, path)))
        return jnp.asarray(leaves[name], old.dtype) if name in leaves else old

    return jax.tree_util.tree_map_with_path(new, tree)


def named_state(state: Any, params: Any, name_of: NameOf) -> NamedState:
    """The state of an optimizer in parts: what has structure and shapes of the params is a moment.

    Args:
      state: of an optimizer.
      params: what it optimizes.
      name_of: makes the name of a param of the keys that lead to it.
    """
    structure: Any = jax.tree.structure(params)
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]

    def is_moment(x: Any) -> bool:
        if jax.tree.structure(x, is_leaf=_is_masked) != structure:
            return False
        pairs = zip(jax.tree.leaves(x, is_leaf=_is_masked), shapes, strict=True)
        return all(_is_masked(leaf) or leaf.shape == shape for leaf, shape in pairs)

    found = NamedState({}, {}, [])
    for path, x in jax.tree_util.tree_flatten_with_path(state, is_leaf=is_moment)[0]:
        place = jax.tree_util.keystr(path, simple=True, separator=".")
        if is_moment(x):
            found.moments[place] = named(x, name_of)
        elif not x.shape:
            found.rest[place] = x
        else:
            found.unnamed.append(place)
    return found


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _key(key: Any) -> Any:
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            return getattr(key, name)
    return str(key)
