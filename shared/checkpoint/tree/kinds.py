"""Of which collection of Linen the variables of an NNX state are, where nothing but names tells."""

from collections.abc import Mapping

from shared.checkpoint.stored import Leaf, Leaves
from shared.checkpoint.tree.moments import trees_like
from shared.checkpoint.tree.roles import LINEN, Names, Roles, depth_of
from shared.errors import InputError

RANDOM = "random state"
# Linen's collections of what is there to be looked at.
SOWN = {"intermediates", "perturbations"}
_CACHE = {"cached_key", "cached_value", "cache_index"}
_SHOWN = 6


def collections_of(roles: Roles, leaves: Leaves, source: str) -> dict[Names, str]:
    """{names of a variable of NNX: its collection, or RANDOM}.

    What an optimizer has moments of is a param. Else the names of Flax's own variables tell: `mean`
    beside `var`, `cached_key`, `count` beside `key`; the others are params where no optimizer has
    moments of any.

    Raises:
      InputError: an optimizer has moments of some, and not of others that have no such name.
    """
    trees = trees_like(roles.optimizer, roles.variables)
    trained = {names for tree in trees.values() for names in tree}
    found: dict[Names, str] = {}
    unknown = []
    for names, path in roles.variables.items():
        kind = "params" if names in trained else collection_of(roles, names, leaves[path])
        if kind == "params" and trained and names not in trained:
            unknown.append("/".join(names))
        found[names] = kind
    if unknown:
        raise InputError(
            f"{source}: the optimizer has moments of some params and none of "
            f"{', '.join(unknown[:_SHOWN])}: are they params that are not trained, or of another "
            f"collection? --pair or --weight_map tells"
        )
    return found


def collection_of(roles: Roles, names: Names, leaf: Leaf) -> str:
    """The collection of a variable: Linen's first name, or what its name in NNX tells."""
    if roles.api == LINEN:
        return names[0]
    *above, name = names[: len(names) - depth_of(roles.variables[names])]
    beside: Mapping[Names, object] = roles.variables

    def has(*others: str) -> bool:
        return all((*above, other) in beside for other in others)

    if leaf.kind == "key":
        return RANDOM
    if name in ("count", "key") and leaf.dtype == "uint32" and has("count", "key"):
        return RANDOM
    if name in ("mean", "var") and has("mean", "var"):
        return "batch_stats"
    return "cache" if name in _CACHE else "params"
