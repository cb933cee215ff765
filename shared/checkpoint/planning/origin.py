"""What a converted checkpoint was made of, as its manifest keeps it, and the way back from that."""

import collections
from collections.abc import Mapping
from typing import Any

from shared.checkpoint.integrity.manifest import Manifest, path_for
from shared.checkpoint.integrity.manifest_rows import leaf_of, path_of, row_of
from shared.checkpoint.naming import written
from shared.checkpoint.planning.made import WHOLE, Made, Piece, Plan
from shared.checkpoint.planning.sides import NnxSide
from shared.checkpoint.stored import Leaves, Path
from shared.checkpoint.tree.recognised import roles_of
from shared.checkpoint.tree.roles import LINEN, NNX, Names, names_of
from shared.errors import CorruptFileError, InputError, first_line
from shared.program.cover import overlaps, shape_of
from shared.program.view import View
from shared.weights.weight_map import WeightMap

# What a view of a leaf is written with: `.[:, 0]` is a layer, `.` all of it.
_LEAF = "."


def origin_of(
    plan: Plan, source: Leaves, sha256: Mapping[Path, str], layout: str
) -> dict[str, Any]:
    """What of a conversion is kept, of JSON's values: the source's leaves, the target's pieces.

    Args:
      plan: of the conversion.
      source: all leaves of the source.
      sha256: of the bytes of each that is not empty.
      layout: "linen" or "nnx", of the source.
    """
    return {
        "layout": layout,
        "leaves": [row_of(path, leaf, sha256.get(path, "")) for path, leaf in source.items()],
        "made": [
            {
                "path": list(path),
                "of": [
                    [list(piece.source), _text(piece.here), _text(piece.there)]
                    for piece in made.pieces
                ],
            }
            for path, made in plan.items()
        ],
    }


def way_back(manifest: Manifest, layout: str, checkpoint: str) -> Plan | None:
    """The plan that makes the source again of what was made of it; None if it was of no conversion.

    Args:
      manifest: of a checkpoint.
      layout: what is to be made, "linen" or "nnx".
      checkpoint: where that is, for messages.

    Raises:
      CorruptFileError: what the manifest says of it cannot be.
    """
    try:
        origin = manifest.extra.get("origin")
        if origin is None or origin["layout"] != layout:
            return None
        made = _made(origin)
        used = {piece.source for each in made.values() for piece in each.pieces}
        for path, leaf in manifest.leaves.items():
            if leaf.kind != "empty" and path not in used:
                raise ValueError(f"nothing is made of {written(path)}")
        for path, each in made.items():
            _check_made(path, each, manifest.leaves)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(
            f"{path_for(checkpoint)}: what it says of the source is damaged: {first_line(error)}; "
            f"take another copy, or remove it and convert without it"
        ) from error
    return made


def model_at(manifest: Manifest | None) -> Names | None:
    """Where the model is in a checkpoint of NNX that was made of one of Linen.

    A module at the root may have an attribute `model`, and one below `model` another. None where
    that is not known: it was of no conversion, a map had told what is a variable of the model, or
    what the manifest says cannot be, which `way_back` tells.
    """
    origin = None if manifest is None else manifest.extra.get("origin")
    if manifest is None or origin is None or manifest.layout != NNX:
        return None
    try:
        leaves = {path_of(row): leaf_of(row) for row in origin["leaves"]}
        made_of = roles_of(leaves, "", LINEN)
    except (AttributeError, InputError, KeyError, TypeError, ValueError):
        return None
    at = NnxSide({}, made_of.is_training, "").model
    return at if any(names_of(path)[: len(at)] == at for path in manifest.leaves) else None


def check_back(manifest: Manifest, sha256: Mapping[Path, str], checkpoint: str) -> None:
    """Stops where what is made by `way_back` has other bytes than the source had.

    Args:
      manifest: of the checkpoint.
      sha256: of the bytes of each leaf that was made.
      checkpoint: where it is, for messages.

    Raises:
      CorruptFileError: a leaf has.
    """
    for row in manifest.extra["origin"]["leaves"]:
        path = path_of(row)
        if path in sha256 and sha256[path] != row["sha256"]:
            raise CorruptFileError(
                f"{path_for(checkpoint)}: {written(path)} is not made again of what it says: its "
                f"bytes are others; take another copy, or remove it and convert without it"
            )


def _made(origin: Mapping[str, Any]) -> dict[Path, Made]:
    pieces: dict[Path, list[Piece]] = collections.defaultdict(list)
    for row in origin["made"]:
        for source, here, there in row["of"]:
            piece = Piece(path_of(row), _view(there), _view(here))
            pieces[path_of({"path": source})].append(piece)
    made = {
        path_of(row): Made(leaf_of(row), tuple(pieces[path_of(row)])) for row in origin["leaves"]
    }
    if len(made) < len(origin["leaves"]):
        raise ValueError("a leaf is named twice")
    if unknown := pieces.keys() - made.keys():
        raise ValueError(f"{written(min(unknown, key=str))} is no leaf of it")
    return made


def are_alike(back: Plan, plan: Plan, api: str, weights: WeightMap | None) -> bool:
    """Whether the way back makes the variables that a map makes, of the same, whatever else.

    Then it is better: it knows of the boxes around params, say, and of what is beside the model.

    Args:
      back: the way back.
      plan: that of the map.
      api: of what is made.
      weights: the map.
    """
    one, other = (_variables(each, api, weights) for each in (back, plan))
    return one == other


def _variables(plan: Plan, api: str, weights: WeightMap | None) -> dict[Names, tuple]:
    leaves = {path: made.leaf for path, made in plan.items()}
    return {
        names: (leaves[path].shape, leaves[path].dtype, set(plan[path].pieces))
        for names, path in roles_of(leaves, "", api, weights).variables.items()
    }


def _check_made(path: Path, made: Made, leaves: Leaves) -> None:
    """Stops with a ValueError unless all of a leaf is made of what is there."""
    name = written(path)
    if made.leaf.kind == "empty":
        if made.pieces:
            raise ValueError(f"{name} is empty, and made of something")
        return
    for piece in made.pieces:
        leaf = leaves.get(piece.source)
        if leaf is None or leaf.kind == "empty":
            raise ValueError(f"{name} is made of {written(piece.source)}, which is not there")
        here, there = shape_of(piece.here, leaf.shape), shape_of(piece.there, made.leaf.shape)
        if here != there:
            raise ValueError(f"{name}: {here} of {written(piece.source)} do not fit {there} of it")
    try:  # parts that overlap are held against the source's SHA-256, as all are
        overlaps([piece.there for piece in made.pieces], made.leaf.shape)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _text(view: View) -> str:
    return "" if view == WHOLE else _LEAF + str(view)


def _view(text: str) -> View:
    if not text:
        return WHOLE
    if not text.startswith(_LEAF):
        raise ValueError(f"{text[:80]!r} is no part of a leaf")
    view = View.parse(text)
    return View("", view.index, view.part, view.steps)
