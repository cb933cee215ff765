"""What checks cannot tell by their limits is decided by evaluating both programs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from shared.checks.base import Check, Limits, Ported, Program, Sample
from shared.checks.gradients import NoGradientError
from shared.checks.outputs import pair_outputs, values_of
from shared.checks.programs import backward
from shared.locate import SAME_OUTPUT, Divergence, first_not_finite, locate
from shared.locate.rounding import Rounding, rounding
from shared.locate.values import same_in_place, size_of
from shared.program.evaluate import evaluate
from shared.program.graph import Value

# Programs of more operations are not computed operation by operation where all samples are equal.
MAX_EVALUATED = 20_000
# (inputs, weights) times those of a sample: limits of activations, 6 say, are reached by the first,
# what only guards against overflow by the second.
LARGE = ((10.0, 1.0), (100.0, 3.0))
# What weights that are one number are set to: limits of a temperature, exp(4.6) say, are reached.
LARGE_SCALARS = (10.0, -10.0)


def decide_in_float64(
    ported: Ported, checks: Sequence[Check]
) -> tuple[list[Check], Divergence | None]:
    """The checks, those decided anew that float64 can decide, and where the programs part.

    In float64 rounding and mistakes are far apart. The limits decide where the user has set them,
    and where a program computes in less than float32, so that rounding is part of it: then, without
    rounding, what parts by more than a constant that is rounded decides.
    """
    places: dict[str, Divergence | None] = {}
    decided = []
    for check in checks:
        measured = check.limit is not None and check.name != "training"
        if check.status == "close" and measured and (place := _exact(ported, check)):
            note = "without rounding they part"
            decided.append(dataclasses.replace(check, status="different", note=note))
            places[check.name] = place
            continue
        rounded = _rounding(ported, check) if check.status == "different" and measured else None
        if rounded is not None:
            status = "close" if rounded.is_finer else "different"
            check = dataclasses.replace(check, status=status, note=rounded.note)
        if check.status in ("close", "different") and measured:
            place, parts = _in_float64(ported, check, places.get("forward"))
            places[check.name] = place
            if _decides(ported):
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


def _in_float64(
    ported: Ported, check: Check, forward: Divergence | None
) -> tuple[Divergence | None, bool]:
    """(where, whether) the programs behind a check part on its sample.

    Args:
      forward: where the forward programs part, if they do.
    """
    programs = (ported.linen_program, ported.nnx_program)
    backwards = check.name == "gradients"
    if forward:
        return forward, True
    place = locate_in(ported, *programs, stops=backwards, sample=check.sample)
    if not backwards:
        return place, bool(place) or _moved_outputs_part(ported, programs, check.sample)
    compared = backward(ported)
    behind = locate_in(ported, *compared, settled=programs, sample=check.sample)
    if behind is None and not _moved_outputs_part(ported, compared, check.sample):
        return None, False
    # What stops a gradient, a constant that later values hide, is told in the forward program.
    return place or behind, True


def _moved_outputs_part(ported: Ported, programs: tuple[Program, Program], number: int) -> bool:
    """Whether outputs part that have to be moved, as weights are, to be compared."""
    if all(one and other for one, other in _outputs(ported, *programs)):
        return False
    sample = ported.sample(number)
    linen, nnx = (
        _outputs_of(p, leaves, jax.tree.leaves(sample.inputs))
        for p, leaves in zip(programs, (sample.linen, sample.nnx), strict=True)
    )
    scale = float(np.median([size_of(x) for x in linen.values()]))
    given = {
        path: linen.get(path, np.zeros(spec.shape)) for path, spec in ported.linen.leaves.items()
    }
    moved = ported.weights.move({path: np.asarray(x) for path, x in given.items()}, to="nnx")
    return not all(same_in_place(moved[path], nnx[path], scale) for path in moved if path in nnx)


def _outputs_of(program: Program, leaves: Mapping[str, Any], inputs: list[Any]) -> dict[str, Any]:
    values = evaluate(program.graph, leaves, inputs)
    of_outputs = (values[node][which] for node, which in program.graph.outputs)
    return dict(zip(program.outputs, of_outputs, strict=True))


def _exact(ported: Ported, check: Check) -> Divergence | None:
    """Where two programs in half precision part without rounding, and not by that of a constant."""
    for number, programs in enumerate(_compared(ported, check)):
        settled = (ported.linen_program, ported.nnx_program) if number else ()
        numbers = ported.sample(check.sample)._replace(casts=False)
        outputs = _both(_outputs(ported, *programs))
        place = _locate(ported, *programs, outputs, numbers, settled)
        if place is not None:
            explained = not place.is_another_function and (
                place.is_near or _round(ported, programs, check).explains
            )
            return None if explained else place
    return None


def _rounding(ported: Ported, check: Check) -> Rounding | None:
    """What half precision alone does to what a check compares; None where there is more to it."""
    compared = _compared(ported, check)
    if not compared:
        return None
    found = _round(ported, compared[-1], check)
    return found if found.explains else None


def _round(ported: Ported, programs: tuple[Program, Program], check: Check) -> Rounding:
    pairs = pair_outputs(ported, *programs).pairs
    values = values_of(programs[0], pairs, 0), values_of(programs[1], pairs, 1)
    outputs = {
        name: (one, other)
        for name in pairs
        if (one := values[0][name]) and (other := values[1][name])
    }
    return rounding(*programs, ported.sample(check.sample), outputs)


def _compared(ported: Ported, check: Check) -> list[tuple[Program, Program]]:
    """The programs behind a check, forward first; none where half precision is not in question."""
    if ported.limits != Limits() or not ported.are_narrow:
        return []
    programs = [(ported.linen_program, ported.nnx_program)]
    if check.name == "gradients":
        programs.append(backward(ported))
    sizes = [len(p.graph.nodes) for both in programs for p in both]
    return programs if max(sizes) <= MAX_EVALUATED else []


def _decides(ported: Ported) -> bool:
    """Whether float64 decides, and no limits."""
    return ported.limits == Limits() and not ported.is_narrow


def decide_unseen(ported: Ported, checks: Sequence[Check]) -> tuple[list[Check], Divergence | None]:
    """The checks, those decided anew where the programs part in what no sample shows.

    That is a branch that none takes, a condition, a guard, a limit that only large numbers reach.
    Where a program computes in less than float32 an epsilon is lost in the rounding of the samples.
    """
    statuses = {check.name: check.status for check in checks}
    programs = (ported.linen_program, ported.nnx_program)
    sizes = [len(p.graph.nodes) for p in programs]
    if statuses.get("programs") == "identical" or max(sizes) > MAX_EVALUATED:
        return list(checks), None
    for name, look in (("forward", _unseen_forward), ("gradients", _unseen_gradients)):
        if name in statuses:
            note, place = look(ported)
            if place is not None:
                decided = [
                    dataclasses.replace(check, status="different", note=note)
                    if check.name == name
                    else check
                    for check in checks
                ]
                return decided, place
    return list(checks), None


_UNSEEN = "they part where no sample shows it: a constant, another branch"


def _unseen_forward(ported: Ported) -> tuple[str, Divergence | None]:
    programs = (ported.linen_program, ported.nnx_program)
    for number in range(ported.samples):
        place = _locate(ported, *programs, [], ported.sample(number), unseen=True)
        if place is not None:
            return _UNSEEN, place
    outputs = _both(_outputs(ported, *programs))
    for inputs, weights in LARGE if _decides(ported) else ():
        place = _locate(ported, *programs, outputs, ported.sample(0, inputs, weights))
        if place is not None:
            return f"they part where inputs are {inputs:g} times as large", place
    for scalar in LARGE_SCALARS if _decides(ported) and ported.has_scalars else ():
        place = _locate(ported, *programs, outputs, ported.sample(0, scalars=scalar))
        if place is not None:
            return f"they part where weights that are one number are {scalar:g}", place
    return "", None


def _unseen_gradients(ported: Ported) -> tuple[str, Divergence | None]:
    programs = (ported.linen_program, ported.nnx_program)
    try:
        compared = backward(ported)
    except NoGradientError:
        return "", None
    if max(len(p.graph.nodes) for p in compared) > MAX_EVALUATED:
        return "", None
    return _UNSEEN, _locate(ported, *compared, [], ported.sample(0), programs, unseen=True)


def not_finite(ported: Ported) -> Divergence | None:
    """Where Linen's first number that is not finite comes from."""
    graph = ported.linen_program.graph
    places = (
        first_not_finite(graph, ported.random_leaves(sample)[0], ported.inputs(sample))
        for sample in range(ported.samples)
    )
    return next((place for place in places if place), None)


def locate_in(
    ported: Ported,
    linen: Program,
    nnx: Program,
    settled: Sequence[Program] = (),
    stops: bool = False,
    sample: int = 0,
) -> Divergence | None:
    """Where two programs of a pair part on a sample; `settled` and `stops` as in `locate`."""
    outputs = _both(_outputs(ported, linen, nnx))
    numbers = ported.sample(sample)
    if ported.is_narrow:
        # What is there without rounding is not to be looked for among what rounding does.
        exact = numbers._replace(casts=False)
        place = _locate(ported, linen, nnx, outputs, exact, settled, stops)
        if place is not None:
            return place
    return _locate(ported, linen, nnx, outputs, numbers, settled, stops)


def _both(outputs: Sequence[tuple[Value | None, Value | None]]) -> list[tuple[Value, Value]]:
    """Those that both programs compute for themselves."""
    return [(one, other) for one, other in outputs if one and other]


def _outputs(
    ported: Ported, linen: Program, nnx: Program
) -> list[tuple[Value | None, Value | None]]:
    pairs = pair_outputs(ported, linen, nnx).pairs
    values = values_of(linen, pairs, 0), values_of(nnx, pairs, 1)
    return [(values[0][name], values[1][name]) for name in pairs]


def _locate(
    ported: Ported,
    linen: Program,
    nnx: Program,
    outputs: Sequence[tuple[Value, Value]],
    sample: Sample,
    settled: Sequence[Program] = (),
    stops: bool = False,
    unseen: bool = False,
) -> Divergence | None:
    forward = [program.graph for program in settled]
    return locate(linen.graph, nnx.graph, ported.entries, sample, outputs, forward, stops, unseen)
