"""The roles of the leaves of a checkpoint, told by its tree and by a weight map, if there is one.

Linen: variables by collection, `params/dense/kernel`, or a TrainState of them with `step` and
`opt_state`. NNX: the state of a module, `dense/kernel/value`, or of one that holds a model and an
`nnx.Optimizer`; `value`, `raw_value` before flax 0.10, is there where an `nnx.State` was saved.
"""

import dataclasses
from collections.abc import Collection, Iterable

from shared.checkpoint.naming import split
from shared.checkpoint.stored import Leaf, Leaves, Reader
from shared.checkpoint.tree.linen_tree import linen_roles, state_at
from shared.checkpoint.tree.nnx_tree import WRAPPERS, nnx_roles, optimizers_in, wrapper_of
from shared.checkpoint.tree.roles import AUX, LINEN, NNX, Names, Roles, is_number, names_of
from shared.errors import InputError
from shared.trees import place_of
from shared.weights.weight_map import WeightMap

_SHOWN = 8


def roles_of(
    leaves: Leaves,
    source: str,
    api: str | None = None,
    weights: WeightMap | None = None,
    likely: str | None = None,
    model_at: Names | None = None,
) -> Roles:
    """What `leaves` are for.

    Args:
      leaves: of a checkpoint.
      source: where it is, for messages.
      api: "linen" or "nnx", None to tell by the tree.
      weights: a map that names the variables of both APIs.
      likely: the API where the tree does not tell.
      model_at: where in a checkpoint of NNX the model is, if that is known.

    Raises:
      InputError: there are none, the tree may be of either, or it has more than one model.
    """
    stored = {names_of(path): path for path, leaf in leaves.items() if leaf.kind != "empty"}
    if not stored:
        raise InputError(f"{source}: no parameters found; name a folder that holds a state")
    empty = {names_of(path): path for path, leaf in leaves.items() if leaf.kind == "empty"}
    known = {LINEN: _linen_names(weights), NNX: _nnx_names(weights)}
    counts = {names for names, path in stored.items() if _is_count(leaves[path])}
    found = api or _api(stored, counts, known, source) or likely
    if found is None:
        raise _untold(stored, source)
    of_linen = {("params",), ("opt_state",)} <= {names[:1] for names in stored}
    if found == NNX and of_linen and model_at is None and not wrapper_of(stored):
        raise InputError(
            f"{source}: is a TrainState of Linen's, `params` beside `opt_state`; leave out "
            f"--direction"
        )
    if found == LINEN:
        roles, masked = linen_roles(stored, empty, known[LINEN], source)
    else:
        roles, masked = nnx_roles(stored, empty, known[NNX], source, counts, model_at)
    return dataclasses.replace(roles, optimizer={**roles.optimizer, **masked})


def likely_api(reader: Reader) -> str | None:
    """The API that writes a format: an `nnx.State` is not written as msgpack, nor as .npz.

    A pure dict of one may be: Linen has no modules that are called by a number, and keeps mean and
    variance elsewhere than params.
    """
    if reader.format not in ("msgpack", "npz"):
        return None
    names = [names_of(path) for path in reader.leaves]
    below = {path[:-1] for path in names if path[-1] == "mean"}
    below &= {path[:-1] for path in names if path[-1] == "var"}
    in_lists = any(is_number(name) for path in names for name in path[:-1])
    return None if below or in_lists else LINEN


def _linen_names(weights: WeightMap | None) -> frozenset[Names]:
    """(collection, *module path) of all variables of Linen that a map has."""
    return frozenset(split(each.linen.leaf) for each in _entries(weights))


def _nnx_names(weights: WeightMap | None) -> frozenset[Names]:
    """The path in the module of all variables of NNX that a map has."""
    places = [
        weights.places.get(each.nnx.leaf) or place_of(each.nnx.leaf)
        for each in _entries(weights)
        if weights is not None
    ]
    return frozenset(names_of((*place.keys, *place.inside)) for place in places)


def _entries(weights: WeightMap | None) -> list:
    return [each for each in weights.entries if not each.is_draw] if weights else []


def _api(
    names: Collection[Names],
    counts: Collection[Names],
    known: dict[str, frozenset[Names]],
    source: str,
) -> str | None:
    for api, aux in AUX.items():
        if any(each[0] == aux for each in names):
            return api
    alone = [(), *((name,) for name in WRAPPERS)]
    is_linen = any(each[0] == "params" and each[1:] not in alone for each in names)
    is_wrapped = bool(wrapper_of(names))
    if is_linen and is_wrapped and not _in_boxes(names, known[LINEN]):
        raise InputError(
            f"{source}: may be Linen's params, each in a box of nn.Partitioned, or an nnx.State "
            f"that was saved as `params`; say which with --direction, or give --pair"
        )
    if is_linen or is_wrapped:
        return LINEN if is_linen else NNX
    if state_at(names, source):
        return LINEN
    # An optimizer alone holds no params, but that of flax 0.10 the model.
    if any(at or any(each[0] == "model" for each in names) for at in optimizers_in(names, counts)):
        return NNX
    if known[NNX]:
        params = {each[1:] for each in known[LINEN] if each[0] == "params"}
        count = {LINEN: len(params & set(names)), NNX: len(known[NNX] & set(names))}
        if count[LINEN] != count[NNX]:
            return max(count, key=lambda api: count[api])
    return None


def _in_boxes(names: Iterable[Names], known: frozenset[Names]) -> bool:
    """Whether they are known variables of Linen, each with a name below it."""
    return any(each[:-1] in known for each in names)


def _is_count(leaf: Leaf) -> bool:
    return leaf.shape == () and leaf.dtype.kind in "iu"


def _untold(names: Collection[Names], source: str) -> InputError:
    tops = sorted({each[0] for each in names})
    return InputError(
        f"{source}: neither Linen's (no `params`) nor a saved nnx.State (no `value` below each "
        f"leaf): it has {', '.join(tops[:_SHOWN])}; say what it is with --direction=linen_to_nnx, "
        f"for params alone, or nnx_to_linen, for a pure dict"
    )
