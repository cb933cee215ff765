"""The states of a chain of optimizers as a sequence, as Linen saves them; NNX saves numbers.

What keeps nothing, as `optax.clip`, is None in Linen's sequence. NNX saves nothing of it: one at
the end of a chain, or all alone, is known of Linen's optimizer itself.
"""

import collections
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaf, Leaves, Path
from shared.checkpoint.tree.roles import is_number, names_of
from shared.errors import InputError

T = TypeVar("T")
# No chain has as many transformations: larger numbers are names.
_LONGEST = 1000


def with_sequences(
    leaves: Mapping[Path, T], nothing: T, others: Collection[str] = (), chains: bool = True
) -> dict[Path, T]:
    """`leaves` with a sequence wherever all names below one in `opt_state` are numbers.

    What a sequence lacks is `nothing`: the state of a transformation that keeps none.

    Args:
      leaves: of a TrainState.
      nothing: a leaf.
      others: the fields beside, whose sequences lack nothing.
      chains: whether those in `opt_state` are meant too.
    """
    children: dict[Path, set[str]] = collections.defaultdict(set)
    for path in leaves:
        for i in range(1, len(path)):
            children[path[:i]].add(str(path[i]))
    is_sequence = {
        above
        for above, names in children.items()
        if (chains and above[0] == "opt_state" and all(_is_of_chain(name) for name in names))
        or (above[0] in others and names == set(map(str, range(len(names)))))
    }
    made: dict[Path, T] = {}
    for path, leaf in leaves.items():
        made[_numbered(path, is_sequence)] = leaf
    for above in is_sequence:
        numbers = set(map(int, children[above]))
        for missing in set(range(max(numbers))) - numbers:
            made[*_numbered(above, is_sequence), missing] = nothing
    return made


def _is_of_chain(name: str) -> bool:
    return is_number(name) and int(name) < _LONGEST


def _numbered(path: Path, is_sequence: set[Path]) -> Path:
    return tuple(int(name) if path[:i] in is_sequence else name for i, name in enumerate(path))


def like_state(
    made: Mapping[Path, T], state: Leaves, of_nothing: Callable[[Leaf], T], source: str
) -> dict[Path, T]:
    """`made` with the paths of a state of Linen's optimizer, and with what of it is empty.

    Args:
      made: the leaves of a target.
      state: those of the optimizer's state, below `opt_state`.
      of_nothing: makes one that is empty.
      source: where the checkpoint is, for messages.

    Raises:
      InputError: the checkpoint is of another optimizer.
    """
    paths = {names_of(path): path for path in state}
    other = {names_of(path) for path, leaf in state.items() if leaf.kind != "empty"}
    own = {names_of(path) for path in made if path[0] == "opt_state"}
    apart = sorted(other - own) or sorted(own - paths.keys())
    if apart:
        has, lacks = ("Pair.optimizer", source) if apart[0] in other else (source, "Pair.optimizer")
        raise InputError(
            f"{source}: is of another optimizer than the pair: {has} has {written(apart[0])} and "
            f"{lacks} has not; give the pair the optimizer of the checkpoint, or none"
        )
    renamed = {paths.get(names_of(path), path): each for path, each in made.items()}
    empty = {path: of_nothing(leaf) for path, leaf in state.items() if leaf.kind == "empty"}
    return {**empty, **renamed}
