"""`verify`: proves a port equal, or shows the first line where it departs."""

import dataclasses
import time
from collections.abc import Callable, Sequence

from shared.alignment import Row, align
from shared.checks.base import Check, Limits, Ported, Program, program
from shared.checks.forward import check_forward, check_updates
from shared.checks.gradients import check_gradients
from shared.checks.outputs import pair_outputs, values_of
from shared.checks.programs import backward, check_programs
from shared.checks.training import check_training
from shared.errors import ComposedLiftsError
from shared.locate import (
    SAME_OUTPUT,
    Divergence,
    first_not_finite,
    layers_exchanged,
    locate,
    use_of,
)
from shared.pair import Pair, PurePair, pure_pair
from shared.program.graph import draws_random_numbers
from shared.weights.crossing import find_crossing
from shared.weights.find import Found, find
from shared.weights.fused import find_fused
from shared.weights.weight_map import WeightMap

CHECKS: dict[str, Callable[[Ported], Check]] = {
    "programs": check_programs,
    "forward": check_forward,
    "updates": check_updates,
    "gradients": check_gradients,
    "training": check_training,
}
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
    ported: Ported | None = None

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
    linen, nnx = (program(model.apply, model, pure.inputs) for model in (pure.linen, pure.nnx))
    progress("map")
    started = time.perf_counter()
    found = _find(pure, linen, nnx)
    linen = dataclasses.replace(linen, graph=found.linen)
    nnx = dataclasses.replace(nnx, graph=found.nnx)
    crossing, fused = find_crossing(found.entries), find_fused(found)
    meant = crossing.remark if crossing else fused.remark if fused else ""
    entries = crossing.meant if crossing else found.entries
    ported = Ported(pure, linen, nnx, entries, limits or Limits(), seed, samples)
    structure = _structure(ported, found, meant)
    made = [dataclasses.replace(structure, seconds=time.perf_counter() - started)]
    if structure.status != "different":
        for name in CHECKS:
            if name in checks:
                progress(name)
                made.append(_timed(CHECKS[name], ported))
    made, divergence = _in_float64(ported, made)
    verdict = _verdict(made)
    draws = [draws_random_numbers(model.graph) for model in (linen, nnx)]
    remark = meant
    if all(draws) and structure.status != "different" and verdict == "different":
        # Each side draws numbers of its own: that the results differ says nothing of the port.
        verdict, divergence = "undecided", None
        remark = "both models draw random numbers in the call; make it deterministic"
    if verdict == "different" and fused and not crossing:
        spots = use_of(found.linen, fused.linen), use_of(found.nnx, fused.nnx)
        divergence = Divergence(fused.summary, *spots)
    if verdict == "different" and crossing and crossing.layers:
        both = found.linen, found.nnx
        divergence = layers_exchanged(*both, crossing.layers, crossing.meant)
    if verdict == "different" and divergence is None:
        divergence = _locate(ported, linen, nnx)
    if any(check.status == "undecided" and check.name == "forward" for check in made):
        divergence = _not_finite(ported)
        remark = remark or (divergence.reason if divergence else "")
    complete = not found.linen_left and not found.nnx_left
    rows = WeightMap(entries, pure.linen.leaves, pure.nnx.leaves).rows()
    return Verification(
        verdict=verdict,
        checks=made,
        rows=rows,
        unmatched_linen=sorted({view.leaf for view in found.linen_left}),
        unmatched_nnx=sorted({view.leaf for view in found.nnx_left}),
        rng_leaves=list(pure.nnx.rng_leaves),
        divergence=divergence,
        remark=remark if complete else structure.note,
        ported=ported,
    )


def find_weight_map(pair: Pair | PurePair) -> WeightMap:
    """Which weight is which, from the two traced programs.

    Raises:
      DifferentError: a leaf has no counterpart.
    """
    pure = pure_pair(pair) if isinstance(pair, Pair) else pair
    programs = [program(model.apply, model, pure.inputs) for model in (pure.linen, pure.nnx)]
    found = _find(pure, *programs)
    if found.linen_left or found.nnx_left:
        left = [view.leaf for view in (*found.linen_left, *found.nnx_left)]
        raise DifferentError(f"no counterpart for {', '.join(sorted(set(left)))}")
    return WeightMap(found.entries, pure.linen.leaves, pure.nnx.leaves)


def _find(pure: PurePair, linen: Program, nnx: Program) -> Found:
    return find(linen.graph, nnx.graph, pure.linen.leaves, pure.nnx.leaves, pure.weight_map)


def _timed(check: Callable[[Ported], Check], ported: Ported) -> Check:
    started = time.perf_counter()
    made = check(ported)
    return dataclasses.replace(made, seconds=time.perf_counter() - started)


def _structure(ported: Ported, found: Found, crossing: str) -> Check:
    """Whether every weight and every output has a counterpart."""
    notes = []
    for side, left in (("Linen", found.linen_left), ("NNX", found.nnx_left)):
        paths = sorted({view.leaf for view in left})
        if paths:
            notes.append(f"only in {side}: {', '.join(paths)}")
    one, other = (
        {
            path: (tuple(shape.shape), str(shape.dtype))
            for path, shape in zip(program.outputs, program.shapes, strict=True)
            if path.startswith("output")
        }
        for program in (ported.linen_program, ported.nnx_program)
    )
    if one != other:
        notes.append(f"outputs {one} in Linen, {other} in NNX")
    if crossing:
        notes.append(crossing)
    return Check("structure", "different" if notes else "equal", note="; ".join(notes))


def _verdict(checks: Sequence[Check]) -> str:
    statuses = {check.name: check.status for check in checks}
    decisive = [status for name, status in statuses.items() if name != "programs"]
    if "different" in decisive:
        return "different"
    if statuses.get("programs") == "identical":
        return "identical"
    if "undecided" in decisive or decisive == ["equal"]:
        return "undecided"  # nothing but the structure was compared
    return "close" if "close" in decisive else "equal"


def _in_float64(ported: Ported, checks: list[Check]) -> tuple[list[Check], Divergence | None]:
    """The checks, those decided anew that float64 can decide, and where the programs part."""
    decides = ported.limits == Limits() and not ported.is_narrow
    places: dict[str, Divergence | None] = {}
    decided = []
    for check in checks:
        if check.status in ("close", "different") and check.name != "training":
            backwards = check.name == "gradients"
            programs = (ported.linen_program, ported.nnx_program)
            place = places.get("forward") or _locate(ported, *programs, stops=backwards)
            if place is None and backwards:
                place = _locate(ported, *backward(ported), settled=programs)
            places[check.name] = place
            if decides and check.name in ("forward", "gradients"):
                parts = places[check.name] is not None
                note = "in float64 they part" if parts else f"in float64 equal to {SAME_OUTPUT:g}"
                status = "different" if parts else "close"
                check = dataclasses.replace(check, status=status, note=note)
        decided.append(check)
    found = [
        places[check.name]
        for check in decided
        if check.status == "different"
        if check.name in places
    ]
    return decided, next((place for place in found if place), None)


def _not_finite(ported: Ported) -> Divergence | None:
    """Where Linen's first number that is not finite comes from."""
    graph = ported.linen_program.graph
    places = (
        first_not_finite(graph, ported.random_leaves(sample)[0], ported.inputs(sample))
        for sample in range(ported.samples)
    )
    return next((place for place in places if place), None)


def _locate(
    ported: Ported,
    linen: Program,
    nnx: Program,
    settled: Sequence[Program] = (),
    stops: bool = False,
) -> Divergence | None:
    pairs = pair_outputs(ported, linen, nnx).pairs
    both = zip(values_of(linen, pairs, 0).values(), values_of(nnx, pairs, 1).values(), strict=True)
    outputs = [(one, other) for one, other in both if one and other]
    leaves, inputs = ported.random_leaves(0), ported.inputs(0)
    forward = [program.graph for program in settled]
    return locate(linen.graph, nnx.graph, ported.entries, *leaves, inputs, outputs, forward, stops)
