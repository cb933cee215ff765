"""Two models traced and mapped: scan by scan, or with scans unrolled."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from shared.checks.base import Check, Ported, program, timed
from shared.checks.programs import check_programs
from shared.checks.structure import check_structure
from shared.pair import PurePair
from shared.weights.crossing import find_crossing
from shared.weights.find import find, find_rolled
from shared.weights.pieces import Found
from shared.weights.weight_map import Entry


def map_scan_by_scan(
    pure: PurePair, options: Mapping[str, Any]
) -> tuple[Ported, dict[str, Check]] | None:
    """The pair, mapped scan by scan, and the checks of its programs.

    The time that takes is that of one layer of each scan. None where scans are not alike: then they
    are unrolled, to compare with loops and to see which layer differs.
    """
    started = time.perf_counter()
    models = (pure.linen, pure.nnx)
    linen, nnx = (program(model.apply, model, pure.inputs, unroll=False) for model in models)
    if not (linen.graph.has_loops and nnx.graph.has_loops):
        return None
    leaves = (pure.linen.leaves, pure.nnx.leaves)
    entries = find_rolled(linen.graph, nnx.graph, *leaves, pure.weight_map)
    if entries is None or find_crossing(entries, *leaves) is not None:
        return None
    ported = Ported(pure, linen, nnx, entries, is_unrolled=False, **options)
    structure = check_structure(ported)
    structure = dataclasses.replace(structure, seconds=time.perf_counter() - started)
    programs = timed(check_programs, ported)
    if structure.status == "different":
        return None
    return ported, {"structure": structure, "programs": programs}


def map_unrolled(
    pure: PurePair, options: Mapping[str, Any], known: Sequence[Entry] | None = None
) -> tuple[Found, Ported]:
    """The map, looked for unless it is `known`, and the pair with scans unrolled."""
    linen, nnx = (program(model.apply, model, pure.inputs) for model in (pure.linen, pure.nnx))
    leaves = (pure.linen.leaves, pure.nnx.leaves)
    if known is None:
        found = find(linen.graph, nnx.graph, *leaves, pure.weight_map)
    else:
        found = Found(tuple(known), (), (), linen.graph, nnx.graph)
    linen = dataclasses.replace(linen, graph=found.linen)
    nnx = dataclasses.replace(nnx, graph=found.nnx)
    return found, Ported(pure, linen, nnx, found.entries, **options)
