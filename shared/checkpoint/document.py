"""Conversions and comparisons as documents of plain values: what is reported of them."""

import dataclasses
import math
from typing import Any

from shared.checkpoint.comparison import Comparison
from shared.checkpoint.conversion import Conversion
from shared.checkpoint.integrity.manifest import versions
from shared.checkpoint.naming import written
from shared.checkpoint.planning.made import WHOLE, Made
from shared.checkpoint.tree.roles import AUX

SCHEMA_VERSION = 1


def conversion_json(conversion: Conversion, target: str) -> dict[str, Any]:
    """All that is known of a conversion.

    Args:
      conversion: done, or planned alone.
      target: where it is, or would be.
    """
    source = conversion.source
    return {
        "schema_version": SCHEMA_VERSION,
        "versions": versions(),
        "is_written": bool(conversion.target),
        "by": conversion.by,
        "source": {
            "path": source.path,
            "format": source.format,
            "layout": conversion.roles.api,
            "num_leaves": sum(leaf.kind != "empty" for leaf in source.leaves.values()),
            "num_bytes": sum(leaf.nbytes for leaf in source.leaves.values()),
            "has_manifest": conversion.manifest is not None,
        },
        "target": {
            "path": conversion.target or target,
            "layout": conversion.to,
            "num_leaves": sum(leaf.kind != "empty" for leaf in conversion.leaves.values()),
            "num_bytes": conversion.nbytes,
        },
        "not_finite": {written(path): count for path, count in conversion.not_finite.items()},
        "carried_along": [
            written(path) for path in conversion.plan if path[0] == AUX[conversion.to]
        ],
        "leaves": [
            {
                "target": written(path),
                "shape": list(made.leaf.shape),
                "dtype": made.leaf.dtype.name,
                "kind": made.leaf.kind,
                "source": sorted({written(piece.source) for piece in made.pieces}),
                "transform": _transform(made, conversion),
                "sha256": conversion.sha256.get(path, ""),
            }
            for path, made in conversion.plan.items()
            if made.leaf.kind != "empty"
        ],
    }


def _transform(made: Made, conversion: Conversion) -> str:
    """What becomes of leaves of the source in one of the target, in words."""
    if made.is_copy:
        before = conversion.source.leaves[made.pieces[0].source].dtype
        return "" if before == made.leaf.dtype else f"{before} to {made.leaf.dtype}"
    heres = {str(piece.here) for piece in made.pieces}
    theres = {str(piece.there) for piece in made.pieces}
    if heres == {str(WHOLE)}:
        return f"{len(theres)} layers stacked"
    if theres == {str(WHOLE)} and len(heres) == 1:
        return f"layer {heres.pop()} of it"
    return f"{len(made.pieces)} parts in another layout"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """All that is known of two checkpoints that were compared."""
    return {
        "schema_version": SCHEMA_VERSION,
        "versions": versions(),
        "is_equal": comparison.is_equal,
        "checkpoints": [
            {
                "path": side.source.path,
                "format": side.source.format,
                "layout": api,
                "num_leaves": sum(leaf.kind != "empty" for leaf in side.source.leaves.values()),
                "num_bytes": sum(leaf.nbytes for leaf in side.source.leaves.values()),
                "layers": layout.layers,
                "param_scan_axis": layout.axis,
                "has_manifest": has_manifest,
            }
            for side, api, layout, has_manifest in zip(
                comparison.sides,
                comparison.apis,
                comparison.layouts,
                comparison.has_manifest,
                strict=True,
            )
        ],
        "tolerance": comparison.tolerance and dataclasses.asdict(comparison.tolerance),
        "leaves": [
            {
                "path": written(row.path),
                "first": row.first,
                "second": row.second,
                "status": row.status,
                "what": row.what,
                "max_abs": number(row.max_abs),
            }
            for row in comparison.rows
        ],
    }


def number(value: float | None) -> float | str | None:
    """A number as JSON can hold it."""
    return value if value is None or math.isfinite(value) else str(value)
