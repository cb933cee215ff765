"""`verify`: proves a port equal, or shows the first line where it departs."""

import dataclasses
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.alignment import Row, align
from shared.checks.base import Check, Limits, Ported, timed
from shared.checks.forward import check_forward, check_updates
from shared.checks.gradients import check_gradients
from shared.checks.initial import other_initial_values
from shared.checks.placement import place_by_values
from shared.checks.programs import check_programs
from shared.checks.structure import check_structure
from shared.checks.training import check_training
from shared.decision import decide_in_float64, decide_unseen, locate_in, not_finite, verdict_of
from shared.errors import ComposedLiftsError
from shared.locate import Divergence, layers_exchanged, use_of
from shared.mapping import map_scan_by_scan, map_unrolled
from shared.pair import Pair, PurePair, pure_pair
from shared.program.graph import draws_random_numbers
from shared.weights.crossing import find_crossing
from shared.weights.fused import find_fused
from shared.weights.pieces import Found
from shared.weights.weight_map import WeightMap

CHECKS: dict[str, Callable[[Ported], Check]] = {
    "programs": check_programs,
    "forward": check_forward,
    "updates": check_updates,
    "gradients": check_gradients,
    "training": check_training,
}
PASSES = ("identical", "equal", "close")
ALL_CHECKS = ("structure", *CHECKS)


class DifferentError(ComposedLiftsError, AssertionError):
    """The port is not equal to the model."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class Verification:
    """What is known of a pair.

    Attributes:
      verdict: "identical": the programs are the same operation by operation, hence equal for every
        input; "equal": bitwise on all samples; "close": within the limits; "different";
        "undecided".
      rows: the weight map, a row for each pair of leaves.
      unmatched_linen: paths without a counterpart; unmatched_nnx: the same.
      rng_leaves: random state of NNX, which Linen keeps out of its variables.
      remark: what else there is to say, in one line.
      ported: the two programs and the map, from which this was found.
    """

    verdict: str
    checks: list[Check]
    rows: list[dict]
    unmatched_linen: list[str]
    unmatched_nnx: list[str]
    rng_leaves: list[str]
    divergence: Divergence | None = None
    remark: str = ""
    ported: Ported | None = dataclasses.field(default=None, repr=False)

    def aligned(self) -> list[Row]:
        """The two programs side by side, line by line."""
        if self.ported is None:
            return []
        programs = (self.ported.linen_program.graph, self.ported.nnx_program.graph)
        return align(*programs, self.ported.entries)

    def raise_if_different(self) -> "Verification":
        """This, if the port is identical, equal or close.

        Raises:
          DifferentError: it is different, or undecided.
        """
        if self.verdict not in ("different", "undecided"):
            return self
        words = [self.verdict, self.remark]
        if self.divergence:
            words.append(self.divergence.reason)
            for side in ("linen", "nnx"):
                spot = getattr(self.divergence, side)
                if spot:
                    words.append(f"{side}: {spot.file}:{spot.line}: {spot.source}")
        raise DifferentError("; ".join(word for word in words if word))


def verify(
    pair: Pair | PurePair,
    checks: Sequence[str] = ALL_CHECKS,
    limits: Limits | None = None,
    seed: int = 0,
    samples: int = 3,
    progress: Callable[[str], None] = lambda step: None,
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
      InputError: one of the models cannot be traced on the inputs.
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
    progress: Callable[[str], None],
) -> Verification:
    rolled = map_scan_by_scan(pure, options)
    if rolled is not None:
        ported, known = rolled
        if known["programs"].status == "identical":
            made = [known["structure"], *_make(ported, checks, progress, known)]
            if all(check.status in ("identical", "equal") for check in made):
                return _verification(ported, made)
    progress("map")
    started = time.perf_counter()
    if rolled is not None:
        # What scan by scan is the map need not be looked for again, as long as it passes.
        found, ported = map_unrolled(pure, options, rolled[0].entries)
        verification = _compare(found, ported, checks, progress, started)
        if verification.verdict != "different":
            return verification
    found, ported = map_unrolled(pure, options)
    if rolled is None or set(found.entries) != set(rolled[0].entries):
        verification = _compare(found, ported, checks, progress, started)
    if verification.verdict == "different" and verification.checks[0].status == "equal":
        progress("another map")
        entries = place_by_values(ported)
        if entries is not None:
            found = dataclasses.replace(found, entries=entries)
            ported = dataclasses.replace(ported, entries=entries)
            return _compare(found, ported, checks, progress, started)
    return verification


def _compare(
    found: Found,
    ported: Ported,
    checks: Sequence[str],
    progress: Callable[[str], None],
    started: float,
) -> Verification:
    """What is known of a pair with the weights of one map."""
    leaves = (ported.linen.leaves, ported.nnx.leaves)
    crossing, fused = find_crossing(found.entries, *leaves), find_fused(found)
    if crossing and not any((found.linen_left, found.nnx_left)):
        as_meant = dataclasses.replace(ported, entries=crossing.meant)
        forward = check_forward(as_meant)
        if forward.status in ("equal", "close") and not decide_unseen(as_meant, [forward])[1]:
            # Programs do not tell experts of equal form apart; what is loaded into them does.
            ported, crossing = as_meant, None
    meant = crossing.remark if crossing else fused.remark if fused else ""
    if crossing:
        ported = dataclasses.replace(ported, entries=crossing.meant)
    linen_left, nnx_left = (
        sorted({view.leaf for view in views}) for views in (found.linen_left, found.nnx_left)
    )
    structure = check_structure(ported, linen_left, nnx_left, meant)
    made = [dataclasses.replace(structure, seconds=time.perf_counter() - started)]
    if structure.status != "different":
        made += _make(ported, checks, progress)
    made, divergence = decide_in_float64(ported, made)
    if verdict_of(made) in ("equal", "close"):
        made, divergence = decide_unseen(ported, made)
    verdict = verdict_of(made)
    draws = [draws_random_numbers(graph) for graph in (found.linen, found.nnx)]
    remark = meant
    if all(draws) and structure.status != "different" and verdict == "different":
        # Each side draws numbers of its own: that the results differ says nothing of the port.
        verdict, divergence = "undecided", None
        remark = "both models draw random numbers in the call; make it deterministic"
        note = "both draw random numbers of their own"
        made = [
            dataclasses.replace(check, status="undecided", note=note)
            if check.status == "different"
            else check
            for check in made
        ]
    if verdict == "different" and fused and not crossing:
        spots = use_of(found.linen, fused.linen), use_of(found.nnx, fused.nnx)
        divergence = Divergence(fused.summary, *spots)
    if verdict == "different" and crossing and crossing.layers:
        both = found.linen, found.nnx
        divergence = layers_exchanged(*both, crossing.layers, crossing.meant)
    if verdict == "different" and divergence is None:
        divergence = locate_in(ported, ported.linen_program, ported.nnx_program)
    if verdict == "undecided" and any(
        check.status == "undecided" and check.name == "forward" for check in made
    ):
        divergence = not_finite(ported)
        remark = remark or (divergence.reason if divergence else "")
    return dataclasses.replace(
        _verification(ported, made),
        verdict=verdict,
        unmatched_linen=linen_left,
        unmatched_nnx=nnx_left,
        divergence=divergence,
        remark=structure.note if linen_left or nnx_left else remark,
    )


def _make(
    ported: Ported,
    checks: Sequence[str],
    progress: Callable[[str], None],
    known: Mapping[str, Check] = types.MappingProxyType({}),
) -> list[Check]:
    made = []
    for name in CHECKS:
        if name in checks:
            progress(name)
            made.append(known.get(name) or timed(CHECKS[name], ported))
    return made


def _verification(ported: Ported, made: list[Check]) -> Verification:
    return Verification(
        verdict=verdict_of(made),
        checks=made,
        rows=ported.weights.rows(),
        unmatched_linen=[],
        unmatched_nnx=[],
        rng_leaves=list(ported.nnx.rng_leaves),
        ported=ported,
    )


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
