"""A weight map by rule, for trees that differ in their envelope alone and need no pair.

Module paths are the same but for layers: `layers_0` of a list in Linen is `layers/0` of `nnx.List`.
They may be stacked or parted on the way. What could be meant in two ways is refused.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaf, Leaves
from shared.checkpoint.tree.kinds import RANDOM, SOWN, collections_of
from shared.checkpoint.tree.layers import (
    Layout,
    list_of_layers,
    numbered,
    stack_of_layers,
    with_underscores,
)
from shared.checkpoint.tree.roles import LINEN, NNX, Names, Roles, depth_of
from shared.errors import InputError
from shared.program.view import View
from shared.trees import Place
from shared.weights.entry import Entry
from shared.weights.weight_map import WeightMap


@dataclasses.dataclass(frozen=True)
class _Piece:
    """What a variable, or one layer of it, becomes.

    Attributes:
      source, target: (collection, *module path) there, layers in numbers.
      take: (axis, layer) of the source, None of all of it.
      put: (axis, layer) of the target.
      shape: of the target.
    """

    source: Names
    target: Names
    shape: tuple[int, ...]
    take: tuple[int, int] | None = None
    put: tuple[int, int] | None = None


def map_by_rule(roles: Roles, leaves: Leaves, layout: Layout, source: str) -> WeightMap:
    """Which variable is which of the other API, by their names.

    Args:
      roles: of the leaves.
      leaves: of the checkpoint.
      layout: how layers are to be on the other side.
      source: where the checkpoint is, for messages.

    Raises:
      InputError: a name may be meant in two ways, or layers are not as `layout` needs them.
    """
    own = _own(roles, leaves, source)
    specs = {listed: leaves[roles.variables[names]] for names, listed in own.items()}
    depth = {listed: depth_of(roles.variables[names]) for names, listed in own.items()}
    pieces = _pieces(specs, layout)
    _check_places(pieces)
    to_nnx = roles.api == LINEN
    spelled = {listed: names if to_nnx else listed for names, listed in own.items()}
    entries, here, there = [], {}, {}
    places: dict[str, dict[str, Place]] = {LINEN: {}, NNX: {}}
    for piece in pieces:
        origin, target, inside = spelled[piece.source], piece.target, depth[piece.source]
        if not to_nnx:
            end = len(target) - inside
            target = (target[0], *with_underscores(target[1:end]), *target[end:])
        one = View(written(origin), (piece.take,) if piece.take else ())
        other = View(written(target), (piece.put,) if piece.put else ())
        here[one.leaf] = _spec(specs[piece.source].shape, specs[piece.source])
        there[other.leaf] = _spec(piece.shape, specs[piece.source])
        entries.append(Entry(*((one, other) if to_nnx else (other, one)), "rule"))
        both = (origin, target) if to_nnx else (target, origin)
        for api, names in zip((LINEN, NNX), both, strict=True):
            if inside or api == NNX:
                places[api][written(names)] = _place(names, inside)
    linen, nnx = (here, there) if to_nnx else (there, here)
    return WeightMap(tuple(entries), linen, nnx, places[NNX], places[LINEN])


def _own(roles: Roles, leaves: Leaves, source: str) -> dict[Names, Names]:
    """{names of a variable that has a counterpart: (collection, *module path), lists by number}."""
    if roles.api == LINEN:
        by_number = numbered({names[1:] for names in roles.variables})
        kept = [names for names in roles.variables if names[0] not in SOWN]
        return {names: (names[0], *by_number[names[1:]]) for names in kept}
    kinds = collections_of(roles, leaves, source)
    return {names: (kinds[names], *names) for names in roles.variables if kinds[names] != RANDOM}


def _place(names: Names, inside: int) -> Place:
    """Of (collection, *names), of which so many at the end are in a variable."""
    end = len(names) - inside
    return Place(names[1:end], tuple(map(int, names[end:])))


def _pieces(specs: Mapping[Names, Leaf], layout: Layout) -> list[_Piece]:
    if layout.layers == "stacked":
        return _stacked(specs, layout)
    if layout.layers == "unstacked":
        return _parted(specs, layout)
    return [_Piece(names, names, leaf.shape) for names, leaf in specs.items()]


def _stacked(specs: Mapping[Names, Leaf], layout: Layout) -> list[_Piece]:
    stack, length = list_of_layers(specs, layout)
    pieces = []
    for (collection, *names), leaf in specs.items():
        source = (collection, *names)
        if tuple(names[: len(stack)]) != stack:
            pieces.append(_Piece(source, source, leaf.shape))
            continue
        number, *below = names[len(stack) :]
        axis = layout.axis_of(collection, len(leaf.shape) + 1)
        if not 0 <= axis <= len(leaf.shape):
            raise InputError(
                f"{'/'.join(source)} has shape {leaf.shape}: layers cannot be stacked along its "
                f"axis {layout.axis}; give another --param_scan_axis"
            )
        shape = (*leaf.shape[:axis], length, *leaf.shape[axis:])
        target = (collection, *stack, *below)
        pieces.append(_Piece(source, target, shape, put=(axis, int(number))))
    return pieces


def _parted(specs: Mapping[Names, Leaf], layout: Layout) -> list[_Piece]:
    stack, length = stack_of_layers(specs, layout)
    pieces = []
    for (collection, *names), leaf in specs.items():
        source = (collection, *names)
        if tuple(names[: len(stack)]) != stack:
            pieces.append(_Piece(source, source, leaf.shape))
            continue
        axis = layout.axis_of(collection, len(leaf.shape))
        shape = (*leaf.shape[:axis], *leaf.shape[axis + 1 :])
        for layer in range(length):
            target = (collection, *stack, str(layer), *names[len(stack) :])
            pieces.append(_Piece(source, target, shape, take=(axis, layer)))
    return pieces


def _check_places(pieces: list[_Piece]) -> None:
    """Stops where two variables would be one in a module, which has no collections."""
    taken: dict[tuple[Names, Any], Names] = {}
    by_module: dict[Names, set[str]] = collections.defaultdict(set)
    for piece in pieces:
        other = taken.setdefault((piece.target[1:], piece.put), piece.source)
        if other != piece.source:
            raise InputError(
                f"{'/'.join(other)} and {'/'.join(piece.source)} would both be "
                f"{'/'.join(piece.target[1:])}; give --pair or --weight_map"
            )
        by_module[piece.target[1:]].add(piece.target[0])
    inner = {names[:i] for names in by_module for i in range(1, len(names))}
    for names in by_module.keys() & inner:
        raise InputError(f"{'/'.join(names)} would be a variable and a module; give --pair")


def _spec(shape: tuple[int, ...], leaf: Leaf) -> Any:
    return dataclasses.replace(leaf, shape=shape)
