"""The answers of `verify` on one row, for one dtype."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from benchmarks.stock import answer
from benchmarks.stock.answer import FIGURE, NOT_COMPARED, Answer
from benchmarks.stock.row import Row
from benchmarks.stock.words import raised, short
from shared import Pair, verify
from shared.models.gradients import CannotRunError, run_forward
from shared.models.pure_pair import PurePair
from shared.report.result import PASSES, STATUSES, Check, Verification
from shared.verification import in_training
from shared.verification.checks.table import make
from shared.verification.initial import check_initial
from shared.verification.same_distribution import SAMPLES, compare
from shared.verification.start import Start

# Steps of training show what gradients show; no layer here has names of axes.
CHECKS = ("programs", "forward", "updates", "gradients", "initial")
IN_DECODING = ("programs", "forward", "updates", "initial")


def answers(row: Row, dtype: str) -> dict[str, Answer]:
    """{question: what is known}, without the questions that do not arise."""
    found = _called(row.make(dtype), dtype) if row.make else {}
    if row.decode:
        found[answer.DECODE] = _decoded(row.decode(dtype), dtype)
    return found


def _called(pair: Pair, dtype: str) -> dict[str, Answer]:
    try:
        found = _verified(pair)
    except Exception as error:  # Flax cannot run it: that is what is to be known
        return {answer.FORWARD: raised(pair, error)}
    checks = _checks(found)
    answers = {answer.WEIGHTS: _weights(found, checks["structure"])}
    answers |= _computed(found, checks, dtype)
    if found.ported.cannot_run:
        forward = answers[answer.FORWARD]
        answers[answer.FORWARD] = dataclasses.replace(forward, cannot_run=_cannot_run(found))
    if (switched := in_training.in_training(found.ported.pair)) is not None:
        trained = _verified(switched)
        made = _computed(trained, _checks(trained), dtype)
        if answer.STATE in made:  # what matters of it is what training leaves
            answers[answer.STATE] = made.pop(answer.STATE)
        answers[answer.TRAINING] = _worst(list(made.values()))
    if found.ported.weights.entries:
        answers[answer.INITIAL] = _initial(found, checks.get("initial"))
    return {question: answers[question] for question in answer.QUESTIONS if question in answers}


def _verified(pair: Pair | PurePair) -> Verification:
    """What is found of a call. Where the programs are the same, nothing need be run."""
    found = verify(pair, ("programs", "initial"), samples=1)
    return found if found.verdict == "identical" else verify(found.ported.pair, CHECKS, samples=1)


def _checks(found: Verification) -> dict[str, Check]:
    """By their names; those of the call as well where weights are kept as something else."""
    made = list(found.checks)
    if made[0].status == "different" and not (found.unmatched_linen or found.unmatched_nnx):
        made += make(found.ported, CHECKS, lambda step: None)
    return {check.name: check for check in made}


def _weights(found: Verification, structure: Check) -> Answer:
    if structure.status != "different":
        return Answer(_mapped(found))
    words = short(structure.note)
    if found.unmatched_linen or found.unmatched_nnx:
        kind = answer.ALONE
    else:
        kind = answer.UNTRAINED if "nothing trains it" in words else answer.STORED
    return Answer(words, kind=kind)


def _mapped(found: Verification) -> str:
    """Whether a weight of one side is one of the other."""
    if not found.ported.weights.entries:
        return "none"
    return "in parts" if found.ported.is_cut else "one to one"


def _computed(found: Verification, checks: Mapping[str, Check], dtype: str) -> dict[str, Answer]:
    """Outputs, gradients and state, as the pair is called."""
    if found.unmatched_linen or found.unmatched_nnx:
        return {answer.FORWARD: NOT_COMPARED, answer.GRADIENTS: NOT_COMPARED}
    asked = {answer.FORWARD: "forward", answer.GRADIENTS: "gradients"}
    outputs = found.ported.outputs
    if outputs.changed or any(not path.startswith("output") for path in outputs.pairs):
        asked[answer.STATE] = "updates"
    return {question: _of(found, checks, name, dtype) for question, name in asked.items()}


def _of(found: Verification, checks: Mapping[str, Check], name: str, dtype: str) -> Answer:
    """What one check says of a call."""
    if checks["programs"].status == "identical":
        return Answer("identical")
    check = checks[name]
    if name == "updates" and found.ported.outputs.changed:
        return Answer(short(check.note), kind=answer.OVERWRITTEN)
    if check.status == "close":
        return Answer(f"close, {FIGURE}", check.max_abs)
    if check.status != "different":
        return Answer(check.status if check.status in PASSES else short(check.note))
    if check.max_abs is None:  # it is of another dtype
        return Answer(short(check.note), kind=answer.STORED)
    kind = answer.COMPUTED if dtype == "float32" else answer.ROUNDED
    words = f"differs by {FIGURE}"
    if checks["structure"].status == "different":  # that is what is told
        return Answer(words, check.max_abs, kind)
    reason = found.divergence.reason if found.divergence else check.note
    return Answer(f"{words}: {short(reason)}", check.max_abs, kind, found.divergence)


def _cannot_run(found: Verification) -> str:
    """Which side XLA cannot run, and why."""
    ported, said = found.ported, []
    models = {"Linen": ported.linen, "NNX": ported.nnx}
    for leaves, (side, model) in zip(ported.random_leaves(0), models.items(), strict=True):
        try:
            run_forward(model, leaves, ported.inputs(0))
        except CannotRunError as error:
            said.append(f"{side}: {error}")
    return "; ".join(said)


def _initial(found: Verification, check: Check | None) -> Answer:
    if check is None:
        check, _ = check_initial(found.ported)
    if check.status == "undecided":
        return Answer(_start_apart(found) or short(check.note), kind=answer.STARTED)
    if check.status == "different":
        return Answer(short(check.note), kind=answer.STARTED)
    return Answer(check.status)


def _start_apart(found: Verification) -> str:
    """How widely the first weight is spread that both draw in other ways."""
    pure = found.ported.pair
    starts = Start(pure.linen, pure), Start(pure.nnx, pure)
    for entry in found.ported.weights.entries:
        views = entry.linen, entry.nnx
        terms = [start.term(view) for start, view in zip(starts, views, strict=True)]
        samplers = tuple(start.sampler(view) for start, view in zip(starts, views, strict=True))
        if not compare(*terms, samplers).is_same:
            one, other = (float(np.std(sampler(SAMPLES))) for sampler in samplers)
            spread = f"standard deviation {one:.2g} in Linen, {other:.2g} in NNX"
            return short(f"{entry.nnx.leaf}: {spread}")
    return ""


def _decoded(pair: Pair, dtype: str) -> Answer:
    """The worst that is found of a call with a cache: of outputs, cache, and how it starts."""
    try:
        found = verify(pair, IN_DECODING, samples=1)
    except Exception as error:  # as above
        return raised(pair, error)
    checks = {check.name: check for check in found.checks}
    if checks["structure"].status == "different":
        return _weights(found, checks["structure"])
    made = [_of(found, checks, name, dtype) for name in ("forward", "updates")]
    return _worst([*made, _initial(found, checks.get("initial"))])


def _worst(answers: list[Answer]) -> Answer:
    """The answer that is furthest from identical; of two, that with the larger figure."""

    def rank(each: Answer) -> tuple:
        status = each.words.split(",")[0]
        known = STATUSES.index(status) if status in PASSES else len(STATUSES)
        return bool(each.kind), known, each.figure or 0

    return max(answers, key=rank)
