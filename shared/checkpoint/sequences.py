"""The states of a chain of optimizers as a sequence, as Linen saves them; NNX saves numbers."""

import collections
from collections.abc import Mapping
from typing import TypeVar

from shared.checkpoint.stored import Path

T = TypeVar("T")


def with_sequences(leaves: Mapping[Path, T], nothing: T) -> dict[Path, T]:
    """`leaves` with a sequence wherever all names below one in `opt_state` are numbers.

    What a sequence lacks is `nothing`: the state of a transformation that keeps none.
    """
    children: dict[Path, set[str]] = collections.defaultdict(set)
    for path in leaves:
        for i in range(1, len(path)):
            children[path[:i]].add(str(path[i]))
    is_sequence = {
        above
        for above, names in children.items()
        if above[0] == "opt_state" and all(name.isdigit() for name in names)
    }
    made: dict[Path, T] = {}
    for path, leaf in leaves.items():
        made[_numbered(path, is_sequence)] = leaf
    for above in is_sequence:
        numbers = set(map(int, children[above]))
        for missing in set(range(max(numbers))) - numbers:
            made[*_numbered(above, is_sequence), missing] = nothing
    return made


def _numbered(path: Path, is_sequence: set[Path]) -> Path:
    return tuple(int(name) if path[:i] in is_sequence else name for i, name in enumerate(path))
