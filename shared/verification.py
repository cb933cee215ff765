"""`verify`: proves a port equal, or shows the first line where it departs."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from shared.checks.base import Limits
from shared.checks.initial import other_initial_values
from shared.checks.placement import place_by_values
from shared.comparison import ALL_CHECKS, Progress, compare, make
from shared.mapping import map_scan_by_scan, map_unrolled
from shared.pair import Pair, PurePair, pure_pair
from shared.verdict import PASSES, DifferentError, Verification, verdict_of
from shared.weights.weight_map import WeightMap


def verify(
    pair: Pair | PurePair,
    checks: Sequence[str] = ALL_CHECKS,
    limits: Limits | None = None,
    seed: int = 0,
    samples: int = 3,
    progress: Progress = lambda step: None,
) -> Verification:
    """Compares a Linen model with its NNX port.

    Args:
      pair: the two models.
      checks: which of `ALL_CHECKS` to make; "structure" is always made.
      limits: up to where results that are not equal are close. Without, that is decided in
        float64, where rounding and mistakes are far apart; for programs that compute in less than
        float32, by the defaults of `Limits`.
      seed: of the random weights and inputs.
      samples: how many sets of them.
      progress: told the name of each step.

    Raises:
      InputError: the inputs, the outputs or the `weight_map` of the pair do not fit.
      Exception: what a model raises while it is traced, with a note that says in whose call.
    """
    progress("trace")
    pure = pure_pair(pair) if isinstance(pair, Pair) else pair
    options = {"limits": limits or Limits(), "seed": seed, "samples": samples}
    found = _verify(pure, checks, options, progress)
    if found.ported and found.verdict in PASSES:
        other = other_initial_values(found.ported)
        if other:
            remark = f"starts with other numbers in NNX, load them: {', '.join(other)}"
            found = dataclasses.replace(found, remark=remark)
    return found


def _verify(
    pure: PurePair,
    checks: Sequence[str],
    options: dict[str, Any],
    progress: Progress,
) -> Verification:
    rolled = map_scan_by_scan(pure, options)
    if rolled is not None:
        ported, known = rolled
        if known["programs"].status == "identical":
            made = [known["structure"], *make(ported, checks, progress, known)]
            if all(check.status in ("identical", "equal") for check in made):
                rows = ported.weights.rows()
                return Verification(verdict_of(made), made, rows, ported=ported)
    progress("map")
    started = time.perf_counter()
    if rolled is not None:
        # What scan by scan is the map need not be looked for again, as long as it passes.
        found, ported = map_unrolled(pure, options, rolled[0].entries)
        verification = compare(found, ported, checks, progress, started)
        if verification.verdict != "different":
            return verification
    found, ported = map_unrolled(pure, options)
    if rolled is None or set(found.entries) != set(rolled[0].entries):
        verification = compare(found, ported, checks, progress, started)
    if verification.verdict == "different" and verification.checks[0].status == "equal":
        progress("another map")
        entries = place_by_values(ported)
        if entries is not None:
            found = dataclasses.replace(found, entries=entries)
            ported = dataclasses.replace(ported, entries=entries)
            return compare(found, ported, checks, progress, started)
    return verification


def find_weight_map(pair: Pair | PurePair) -> WeightMap:
    """Which weight is which, from the two traced programs.

    Raises:
      DifferentError: a leaf has no counterpart.
    """
    pure = pure_pair(pair) if isinstance(pair, Pair) else pair
    rolled = map_scan_by_scan(pure, {})
    if rolled is not None and rolled[1]["programs"].status == "identical":
        return rolled[0].weights
    found, ported = map_unrolled(pure, {})
    if found.linen_left or found.nnx_left:
        left = [view.leaf for view in (*found.linen_left, *found.nnx_left)]
        raise DifferentError(f"no counterpart for {', '.join(sorted(set(left)))}")
    entries = place_by_values(ported) or found.entries
    return WeightMap(entries, pure.linen.leaves, pure.nnx.leaves)
