"""Whether the variables of a checkpoint are those of a weight map: all that is not, listed."""

import difflib
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from shared.checkpoint.naming import written
from shared.checkpoint.planning.sides import Side
from shared.checkpoint.stored import Leaf, Leaves, Path
from shared.checkpoint.tree.kinds import collection_of
from shared.checkpoint.tree.roles import LINEN, Names, Roles
from shared.errors import InputError

SHOWN = 20
# Of leaves that have the shape of a missing one.
_LOOKED_AT = 200


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
        key = key_of(side, name)
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
    unused = {path: leaves[path] for path in more.values()}
    shown = [_missing(name, specs[name], unused) for name in lacking[:SHOWN]]
    shown = [*shown, *sorted(problems)][:SHOWN]
    if shown:
        left = len(lacking) + len(problems) - len(shown)
        count = f"; and {left:,} more" if left else ""
        raise InputError(
            f"{source} does not fit the weight map: {'; '.join(shown)}{count}"
            f"{_advice(lacking, extra, problems[: len(problems) - len(extra)])}"
        )
    return found


def _advice(lacking: list, extra: list, different: list) -> str:
    """What to do about leaves that are missing, not in the map, or otherwise."""
    if different:
        return "; give a map or a pair of these shapes and dtypes"
    if lacking and extra:
        return "; convert has --rename=OLD=NEW for other names"
    if extra:
        return "; convert has --allow_extra, which carries them along"
    return "; give another step, or a map of what is there"


def key_of(side: Side, name: str) -> Names:
    """What a variable of a map is called in `Roles.variables`."""
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
    same = (path for path, leaf in extra.items() if tuple(expected.shape) == leaf.shape)
    alike = [written(path) for path in itertools.islice(same, _LOOKED_AT)]
    near = difflib.get_close_matches(name, alike, n=1, cutoff=0) if alike else []
    hint = f" (renamed? {near[0]} has its shape)" if near else ""
    return f"{name}: missing, expected {tuple(expected.shape)} {expected.dtype}{hint}"
