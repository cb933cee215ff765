"""`verify`, from top to bottom: pair, programs, map, checks, decision, place, verdict."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence

from shared.errors import one_line, where_raised
from shared.models.gradients import CannotRunError
from shared.models.pair import Pair
from shared.models.pure_pair import PurePair, pure_pair
from shared.report.result import PASSES, Check, DifferentError, Divergence, Verification
from shared.verification import in_training, initial, metadata, own_training
from shared.verification.checks.programs import are_the_same
from shared.verification.checks.structure import check_structure
from shared.verification.checks.table import ALL_CHECKS, Progress, make
from shared.verification.decision.in_float64 import decide_in_float64
from shared.verification.decision.instability import decide_by_rounding
from shared.verification.decision.unseen import decide_unseen
from shared.verification.drawn import with_draws
from shared.verification.limits import Limits
from shared.verification.mapping import (
    Mapped,
    Options,
    Tried,
    Way,
    as_mapped,
    by_values,
    scan_by_scan,
    unrolled,
    unrolled_as_scanned,
    with_draws_laid_out,
    with_turned_draws,
)
from shared.verification.placement import place_by_values
from shared.verification.ported import Ported, timed
from shared.verification.rematerialised import remark_of_remat
from shared.verification.untrained import with_untrained
from shared.verification.verdict import conclude, verdict_of, with_check
from shared.weights.storage import other_kinds
from shared.weights.weight_map import WeightMap

_WAYS_OF_DRAWS = {
    "draws laid out": with_draws_laid_out,
    "draws turned": with_turned_draws,
}
# In this order, until the port is the model with the map.
_WAYS = {
    "map scan by scan": scan_by_scan,
    "the same map, unrolled": unrolled_as_scanned,
    "map": unrolled,
    "another map": by_values,
    **_WAYS_OF_DRAWS,
}


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
    pure = with_draws(pure_pair(pair) if isinstance(pair, Pair) else pair)
    options = {"limits": limits or Limits(), "seed": seed, "samples": samples}
    of_call = own_training.checks_of_call(pure, checks)
    found = _verified(pure, of_call, options, progress)
    other = with_untrained(pure, found.unmatched_linen)
    if other is not None:
        found = _verified(other, of_call, options, progress)
    if found.verdict == "different" or found.checks[0].status == "different":
        return found
    for name, step in _BESIDE.items():
        if name in checks:
            found = step(found, options, progress)
    if found.verdict in PASSES:
        remark = "; ".join(filter(None, (found.remark, remark_of_remat(pure))))
        found = dataclasses.replace(found, remark=remark)
    return found


def _with_own_training(found: Verification, options: Options, progress: Progress) -> Verification:
    """With steps of the pair's own optimizer compared, if it has one."""
    training = found.ported.pair.training
    if training is None:
        return found
    progress(own_training.NAME)
    check = timed(functools.partial(own_training.check_own_training, training), found.ported)
    if check.status == "different":
        return with_check(found, check, None, f"equal but for training: {check.note}")
    checks = [*found.checks, check]
    said = f"training is not compared: {check.note}" if check.status == "undecided" else ""
    remark = "; ".join(filter(None, (found.remark, said)))
    return dataclasses.replace(found, checks=checks, verdict=verdict_of(checks), remark=remark)


def _verified(
    pure: PurePair,
    checks: Sequence[str],
    options: Options,
    progress: Progress,
    ways: Mapping[str, Way] = _WAYS,
) -> Verification:
    """The verdict with the first map that is not different, or else with the last."""
    tried: list[Tried] = []
    for step, way in ways.items():
        progress(step)
        mapped = way(pure, options, tried)
        if mapped is not None:
            tried.append(Tried(mapped, _examine(mapped, checks, progress)))
            if tried[-1].is_settled:
                break
    found = tried[-1].verification
    assert found is not None  # the weights were mapped unrolled
    return found


def _examine(mapped: Mapped, checks: Sequence[str], progress: Progress) -> Verification | None:
    """The verdict with the weights of one map; None where scans have to be unrolled for it."""
    ported = mapped.ported
    structure = check_structure(ported, mapped.linen_left, mapped.nnx_left, mapped.remark)
    made = [dataclasses.replace(structure, seconds=mapped.seconds)]
    if not ported.is_unrolled:
        if structure.status == "different" or not are_the_same(ported):
            return None
        try:
            made += make(ported, checks, progress)
        except CannotRunError:
            return None  # to be computed operation by operation
        exact = all(check.status in ("identical", "equal") for check in made)
        return conclude(mapped, made, None) if exact else None
    if structure.status != "different":
        made += make(ported, checks, progress)
    made, place = decide_in_float64(ported, made)
    if place is None:
        made, place = decide_by_rounding(ported, made)
    if verdict_of(made) in ("equal", "close"):
        made, place = decide_unseen(ported, made)
    return conclude(mapped, made, place)


def _with_training_mode(found: Verification, options: Options, progress: Progress) -> Verification:
    """With both models compared as they are called in training, if they have such a mode."""
    switched = in_training.in_training(found.ported.pair)
    if switched is None:
        return found
    progress(in_training.NAME)
    started = time.perf_counter()
    try:
        pure = with_draws(switched)
    except Exception as error:  # it is the user's code that cannot be called so
        note = f"not looked at, in {where_raised(error)}: {one_line(error)}"
        check = Check(in_training.NAME, "undecided", note=note)
        remark = "; ".join(filter(None, (found.remark, "not compared in training mode")))
        return dataclasses.replace(found, checks=[*found.checks, check], remark=remark)
    mapped = as_mapped(pure, options, found.ported.weights.entries)
    checks = ("programs",) if are_the_same(mapped.ported) else in_training.CHECKS
    ways = {in_training.NAME: lambda *_: mapped, **_WAYS_OF_DRAWS}
    trained = _verified(pure, checks, options, progress, ways)
    return in_training.merged(found, trained, time.perf_counter() - started)


def _with_initial(found: Verification, options: Options, progress: Progress) -> Verification:
    """With what both models start with compared, where that is known as a program."""
    pure = found.ported.pair
    if pure.linen.init is None or pure.nnx.init is None:
        return found
    progress(initial.NAME)
    check, place = _timed(initial.check_initial, found)
    if pure.is_loaded and check.status == "different":
        check = dataclasses.replace(check, status="undecided", note=f"to be loaded: {check.note}")
    found = with_check(found, check, place, "equal with the same weights")
    if place is not None and initial.is_cause(place):
        found = dataclasses.replace(found, divergence=place)
    if check.status != "undecided" or check.worst_leaf is None:
        return found
    remark = f"starts otherwise in NNX, load it: {check.worst_leaf}"
    return dataclasses.replace(found, remark="; ".join(filter(None, (found.remark, remark))))


def _with_metadata(found: Verification, options: Options, progress: Progress) -> Verification:
    """With the names of axes compared, if there are any."""
    if not metadata.has_metadata(found.ported.pair):
        return found
    progress(metadata.NAME)
    return with_check(found, *_timed(metadata.check_metadata, found), "equal but for sharding")


# What is looked at beside the call, of a port that passes.
_BESIDE = {
    own_training.NAME: _with_own_training,
    in_training.NAME: _with_training_mode,
    initial.NAME: _with_initial,
    metadata.NAME: _with_metadata,
}


def _timed(
    check: Callable[[Ported], tuple[Check, Divergence | None]], found: Verification
) -> tuple[Check, Divergence | None]:
    started = time.perf_counter()
    made, place = check(found.ported)
    return dataclasses.replace(made, seconds=time.perf_counter() - started), place


def find_weight_map(pair: Pair | PurePair) -> WeightMap:
    """Which weight is which, from the two traced programs.

    Raises:
      DifferentError: a leaf has no counterpart.
    """
    pure = with_draws(pure_pair(pair) if isinstance(pair, Pair) else pair)
    rolled = scan_by_scan(pure, {}, ())
    if rolled and are_the_same(rolled.ported):
        return rolled.ported.weights
    mapped = unrolled(pure, {}, ())
    assert mapped is not None
    left = mapped.linen_left + mapped.nnx_left
    if left:
        raise DifferentError(f"no counterpart for {', '.join(sorted(set(left)))}")
    if others := other_kinds(mapped.found.entries, (pure.linen.leaves, pure.nnx.leaves)):
        raise DifferentError("; ".join(others))
    ported = dataclasses.replace(mapped.ported, entries=mapped.found.entries)
    entries = place_by_values(ported) or ported.entries
    return dataclasses.replace(ported, entries=entries).weights
