"""What a converted checkpoint was made of, as its manifest keeps it, and the way back from that."""

import collections
from collections.abc import Mapping
from typing import Any

from shared.checkpoint.manifest import Manifest
from shared.checkpoint.manifest_rows import leaf_of, path_of, row_of
from shared.checkpoint.plan import WHOLE, Made, Piece, Plan
from shared.checkpoint.recognised import roles_of
from shared.checkpoint.roles import Names
from shared.checkpoint.stored import Leaves, Path
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


def way_back(manifest: Manifest, layout: str) -> Plan | None:
    """The plan that makes the source again of what was made of it; None if it was of no conversion.

    Args:
      manifest: of a checkpoint.
      layout: what is to be made, "linen" or "nnx".

    Raises:
      KeyError, TypeError, ValueError: the manifest is none of this tool.
    """
    origin = manifest.extra.get("origin")
    if origin is None or origin["layout"] != layout:
        return None
    pieces: dict[Path, list[Piece]] = collections.defaultdict(list)
    for row in origin["made"]:
        for source, here, there in row["of"]:
            pieces[path_of({"path": source})].append(Piece(path_of(row), _view(there), _view(here)))
    made = {}
    for row in origin["leaves"]:
        path = path_of(row)
        made[path] = Made(leaf_of(row), tuple(pieces[path]))
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


def _text(view: View) -> str:
    return "" if view == WHOLE else _LEAF + str(view)


def _view(text: str) -> View:
    if not text:
        return WHOLE
    view = View.parse(text)
    return View("", view.index, view.part, view.steps)
