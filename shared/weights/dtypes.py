"""Weights that differ in dtype alone: a port stores them in half precision, say."""

import collections
import dataclasses
from collections.abc import Sequence

from shared.weights.match import Matcher
from shared.weights.pieces import Found, Leaves
from shared.weights.weight_map import Entry


def paired_across_dtypes(found: Found) -> Found:
    """`found` with the weights paired that have no counterpart of their own dtype."""
    if not (found.linen_left and found.nnx_left):
        return found
    matcher = Matcher(found.linen, found.nnx, any_dtype=True)
    for entry in found.entries:
        matcher.pin(entry.linen.as_it_is, entry.nnx.as_it_is, entry.by)
    matcher.run()
    left = set(found.linen_left), set(found.nnx_left)
    pairs = [entry for entry in matcher.entries if entry.linen in left[0] and entry.nnx in left[1]]
    return dataclasses.replace(
        found,
        entries=(*found.entries, *pairs),
        linen_left=tuple(v for v in found.linen_left if v not in {e.linen for e in pairs}),
        nnx_left=tuple(v for v in found.nnx_left if v not in {e.nnx for e in pairs}),
    )


def other_dtypes(entries: Sequence[Entry], leaves: tuple[Leaves, Leaves]) -> list[str]:
    """What is said of the weights that differ in dtype: one sentence for each two dtypes."""
    paths: dict[tuple[str, str], dict[str, None]] = collections.defaultdict(dict)
    for entry in entries:
        one, other = leaves[0][entry.linen.leaf].dtype, leaves[1][entry.nnx.leaf].dtype
        if one != other:
            paths[str(one), str(other)][entry.nnx.leaf] = None
    notes = []
    for (one, other), named in paths.items():
        what = f"{len(named)} weights are" if len(named) > 1 else f"{next(iter(named))} is"
        hint = ": param_dtype?" if all(path.startswith("params/") for path in named) else ""
        notes.append(f"{what} {one} in Linen, {other} in NNX{hint}")
    return notes
