"""What a user says of the variables of a checkpoint: other names, what may be beside a map."""

import collections
import dataclasses
import difflib
from collections.abc import Mapping

from shared.checkpoint.naming import split, written
from shared.checkpoint.planning.fitting import key_of
from shared.checkpoint.planning.sides import sides
from shared.checkpoint.stored import Path
from shared.checkpoint.tree.roles import AUX, LINEN, NNX, Names, Roles
from shared.errors import InputError
from shared.weights.weight_map import WeightMap


def renamed(roles: Roles, names: Mapping[str, str]) -> Roles:
    """The same variables, and all that is kept of each, under other names.

    Args:
      roles: of the leaves.
      names: {path of a module or a variable, from the root module: its new one}.

    Raises:
      InputError: there is no such module, or two variables would have one name.
    """
    first = 1 if roles.api == LINEN else 0  # Linen's begin with the collection
    changed: dict[Names, Names] = {}
    for old, new in names.items():
        found = {key: key[first:] for key in roles.variables if _begins(key[first:], split(old))}
        if not found:
            raise InputError(f"--rename={old}={new}: {old} is not there{_near(old, roles, first)}")
        rest = {path: path[len(split(old)) :] for path in found.values()}
        changed |= {path: (*split(new), *below) for path, below in rest.items()}
    variables: dict[Names, Path] = {}
    for key, path in roles.variables.items():
        name = (*key[:first], *changed.get(key[first:], key[first:]))
        if name in variables:
            raise InputError(
                f"--rename: {written(variables[name])} and {written(path)} would both be "
                f"{written(name)}"
            )
        variables[name] = path
    return dataclasses.replace(
        roles,
        variables=variables,
        optimizer=_with_names(roles.optimizer, changed),
        others=_with_names(roles.others, changed),
    )


def without_extra(roles: Roles, weights: WeightMap) -> Roles:
    """What no map names is carried along, params too."""
    side = sides(weights, roles.nested, roles.is_training, "")[roles.api]
    specs = weights.linen if roles.api == LINEN else weights.nnx
    named = {key_of(side, name) for name in specs}
    extra = {key: path for key, path in roles.variables.items() if key not in named}
    to = NNX if roles.api == LINEN else LINEN
    return dataclasses.replace(
        roles,
        variables={key: path for key, path in roles.variables.items() if key in named},
        aux={**roles.aux, **{(AUX[to], *path): path for path in extra.values()}},
    )


def _begins(names: Names, with_names: Names) -> bool:
    return names[: len(with_names)] == with_names


def _near(old: str, roles: Roles, first: int) -> str:
    modules = collections.Counter(
        written(key[first:i]) for key in roles.variables for i in range(first + 1, len(key) + 1)
    )
    near = difflib.get_close_matches(old, modules, n=3, cutoff=0.5) or list(modules)[:3]
    return f"; did you mean {' or '.join(near)}?"


def _with_names(state: Mapping[Names, Path], changed: Mapping[Names, Names]) -> dict[Names, Path]:
    """A state whose trees of moments have the new names."""
    made = {}
    for names, path in state.items():
        start = next((i for i in range(1, len(names)) if names[i:] in changed), len(names))
        made[*names[:start], *changed.get(names[start:], ())] = path
    return made
