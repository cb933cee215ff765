"""The names of the axes of variables, which no format holds, as a manifest keeps them."""

from collections.abc import Mapping
from typing import Any

from shared.checkpoint.naming import split, written
from shared.checkpoint.stored import Leaves
from shared.checkpoint.tree.recognised import roles_of
from shared.checkpoint.tree.roles import LINEN, names_of
from shared.trees import place_of
from shared.weights.weight_map import WeightMap


def axis_names_of(
    leaves: Leaves, api: str, names: Mapping[str, tuple], weights: WeightMap
) -> dict[str, list[Any]]:
    """{path of a leaf: the name of each of its axes, None where it has none}, of JSON's values.

    Args:
      leaves: of a checkpoint.
      api: whose it is, "linen" or "nnx".
      names: {name in the map: the name of each axis}.
      weights: the map.
    """
    variables = roles_of(leaves, "", api, weights).variables
    found = {}
    for name, axes in names.items():
        place = weights.places.get(name) or place_of(name)
        key = split(name) if api == LINEN else names_of((*place.keys, *place.inside))
        if key in variables:
            found[written(variables[key])] = [_plain(axis) for axis in axes]
    return found


def _plain(axis: Any) -> Any:
    """A name, or those of several axes of a mesh."""
    return list(map(str, axis)) if isinstance(axis, tuple | list) else axis and str(axis)
