"""Whether the variables of a checkpoint are those of a weight map: all that is not, listed."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from shared.checkpoint.kinds import collection_of
from shared.checkpoint.naming import written
from shared.checkpoint.roles import LINEN, Names, Roles
from shared.checkpoint.sides import Side
from shared.checkpoint.stored import Leaf, Leaves, Path
from shared.errors import InputError

SHOWN = 20


def check_fits(
    roles: Roles,
    leaves: Leaves,
    specs: Mapping[str, Any],
    side: Side,
    names: Iterable[str],
    source: str,
) -> dict[str, Path]:
    """{name in the map: path in the checkpoint} of all variables that are mapped.

    Args:
      roles: of the leaves.
      leaves: of the checkpoint.
      specs: {name: shape and dtype} of the map's side.
      side: the paths of that side.
      names: what of them is mapped.
      source: where the checkpoint is, for messages.

    Raises:
      InputError: a variable is missing, of another shape or dtype, or a param is in no map.
    """
    found: dict[str, Path] = {}
    problems, lacking = [], []
    used: set[Names] = set()
    for name in sorted(names):
        key = _key(side, name)
        used.add(key)
        path = roles.variables.get(key)
        if path is None:
            lacking.append(name)
            continue
        found[name] = path
        problems += _differences(written(path), specs[name], leaves[path])
    more = {key: path for key, path in roles.variables.items() if key not in used}
    extra = [
        path for key, path in more.items() if collection_of(roles, key, leaves[path]) == "params"
    ]
    problems += [f"{written(path)}: in no entry of the map" for path in extra]
    problems += [
        _missing(name, specs[name], {p: leaves[p] for p in more.values()}) for name in lacking
    ]
    if problems:
        count = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InputError(
            f"{source} does not fit the weight map: {'; '.join(sorted(problems)[:SHOWN])}{count}"
        )
    return found


def _key(side: Side, name: str) -> Names:
    module_path = side.module_path(name)
    return (name.split("/")[0], *module_path) if side.api == LINEN else module_path


def _differences(path: str, expected: Any, leaf: Leaf) -> list[str]:
    problems = []
    if tuple(expected.shape) != leaf.shape:
        problems.append(f"{path}: expected {tuple(expected.shape)}, received {leaf.shape}")
    if str(expected.dtype) != str(leaf.dtype):
        problems.append(f"{path}: expected {expected.dtype}, received {leaf.dtype}")
    return problems


def _missing(name: str, expected: Any, extra: Mapping[Path, Leaf]) -> str:
    """What is said of a leaf that is not there, with one of its shape that may be meant."""
    alike = [written(path) for path, leaf in extra.items() if tuple(expected.shape) == leaf.shape]
    near = difflib.get_close_matches(name, alike, n=1, cutoff=0) if alike else []
    hint = f" (renamed? {near[0]} has its shape)" if near else ""
    return f"{name}: missing, expected {tuple(expected.shape)} {expected.dtype}{hint}"
