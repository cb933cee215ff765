"""Trees of one array for each param, anywhere in the state of an optimizer: moments, averages."""

import collections
from collections.abc import Iterable, Mapping
from typing import TypeVar

from shared.checkpoint.tree.roles import Names

T = TypeVar("T")


def trees_like(state: Mapping[Names, T], params: Iterable[Names]) -> dict[Names, dict[Names, T]]:
    """{names down to a tree: {param: leaf}} of all trees in `state` that are like the params.

    A tree may lack some: those that `optax.masked` leaves out. A tree that has another one below it
    is none: `count` beside `mu` is no moment of a param that is called `count`.

    Args:
      state: by names.
      params: the module paths of params.
    """
    known = set(params)
    found: dict[Names, dict[Names, T]] = collections.defaultdict(dict)
    for names, leaf in state.items():
        # The longest that fits: `dense/kernel`, not the `kernel` of a param at the root.
        start = next((i for i in range(1, len(names)) if names[i:] in known), None)
        if start is not None:
            found[names[:start]][names[start:]] = leaf
    return {
        above: tree
        for above, tree in found.items()
        if not any(other[: len(above)] == above != other for other in found)
    }
