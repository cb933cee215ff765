"""The story of a benchmark: a subject -> programs -> times in turns -> tables -> advice."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from shared.bench.advice import advice
from shared.bench.first_result import first_results
from shared.bench.programs import same_as_first
from shared.bench.pure_jax import Pure, pure
from shared.bench.rows import (
    TITLES,
    arguments,
    each_leaf_row,
    eager_rows,
    form_rows,
    init_rows,
    jitted,
    made_ready,
    size_rows,
    stage_rows,
    timed_row,
    training_rows,
)
from shared.bench.timing import in_turns, ratio
from shared.bench.train_step import TRAINED, train_step_rows
from shared.models.devices import on_each, spread
from shared.models.memory import bytes_of, check_memory
from shared.models.subject import (
    RUNNERS,
    SEED,
    Runner,
    Subject,
    nnx_weights,
    no_gradient,
    nothing,
    total,
)
from shared.report.measured import Benchmark, Quantity
from shared.training.config import Config, optimizer
from shared.trees import flatten, unflatten


class Budget(NamedTuple):
    """How long a benchmark may take.

    Attributes:
      seconds: of what is timed in turns, for each table.
      times: how often a program is made ready.
      processes: how often a process is started for each model.
      forms: what is computed in each form of the call, each time compiled anew.
      training: whether a training step is measured.
    """

    seconds: float
    times: int
    processes: int
    forms: tuple[str, ...] = tuple(TITLES)
    training: bool = True


FULL = Budget(10.0, 5, 3)
QUICK = Budget(2.0, 1, 0, forms=("forward", "nothing"), training=False)
NUM_STEPS = 9
# How many times its weights a benchmark holds, at most: those of both models, of a module that is
# called, the outputs of a call and gradients.
HELD = 6
OWN_STATE = (
    "this module has more than params, statistics, a cache or streams: 'nnx.jit' writes back what "
    "a call changes; a form that is split returns statistics and caches, which the next call has "
    "to be given, and draws the same from its streams each time: make those an argument"
)
Progress = Callable[[str], None]


def bench(
    subject: Subject,
    budget: Budget = FULL,
    progress: Progress = lambda step: None,
    names: Mapping[str, str] | None = None,
    commands: Mapping[str, Sequence[str]] | None = None,
    notes: Sequence[str] = (),
) -> Benchmark:
    """Measures both models of `subject`, and the forms of its NNX module.

    Args:
      subject: the models and the inputs of one call.
      budget: how long it may take.
      progress: is told what is measured next.
      names: {a leaf of NNX: the leaf of Linen that holds the same}; without, programs are not
        compared.
      commands: {column: the words after `python` that make its weights and call it once}.
      notes: what is said before the advice, a sentence each.

    Raises:
      InputError: the weights do not fit into memory as often as they are held.
    """
    seconds, times, processes, of_forms, training = budget
    _check_memory(subject)
    subject = dataclasses.replace(subject, inputs=spread(subject.inputs))
    rows: list[Quantity] = []
    if commands and processes:
        progress("from the start of a process")
        rows.append(timed_row("process, to the first result", first_results(commands, processes)))
    progress("init")
    runners = runners_of(subject)
    held = runners["linen"].held
    params_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(held))
    reasons = [no_gradient(runner, subject.inputs) for runner in runners.values()]
    reason = next(filter(None, reasons), None)
    kinds = [kind for kind in TITLES if kind != "gradient" or not reason]

    rows += init_rows(runners, params_bytes, seconds, times)
    same = {}
    for kind in (kind for kind in kinds if kind != "nothing"):
        progress(f"{TITLES[kind]}: trace, lower, compile")
        if names is not None:
            same[TITLES[kind]] = same_as_first(runners, kind, subject.inputs, names)
        found = made_ready(arguments(runners, kind, subject.inputs), times)
        rows += [*stage_rows(TITLES[kind], found), *size_rows(TITLES[kind], found)]

    progress("forward, not jitted")
    rows += eager_rows(subject, held, seconds)

    progress("calls in turns")
    calls = {
        f"{kind} {name}": jitted(*words)
        for kind in kinds
        for name, words in arguments(runners, kind, subject.inputs).items()
    }
    calls["again"] = jitted(*arguments(runners, "forward", subject.inputs)["linen"])
    calls["empty"] = jitted(lambda *inputs: nothing((), *inputs), *subject.inputs)
    timed = in_turns(calls, seconds)
    for kind in kinds:
        rows.append(timed_row(TITLES[kind], {n: timed[f"{kind} {n}"] for n in runners}))
    of_nothing = {name: timed[f"nothing {name}"] for name in runners}
    rows.append(each_leaf_row(runners, of_nothing, timed["empty"]))

    if training and not reason:
        progress("training step")
        rows += training_rows(runners, subject.inputs, seconds / 2, times)
        if subject.case and subject.case.name == TRAINED:
            rows += train_step_rows(subject.case, optimizer(Config()), seconds / 2, times)

    progress("forms of the call")
    forms, refused = form_rows(subject, [kind for kind in kinds if kind in of_forms], seconds)
    num_leaves = len(runners["nnx"].held)
    noise = ratio(timed["again"], timed["forward linen"])
    has_state = any(not name.startswith("params/") for name in runners["nnx"].names)
    return Benchmark(
        subject.name,
        ", ".join(map(_described, jax.tree.leaves(subject.inputs))),
        num_leaves,
        params_bytes,
        tuple(rows),
        tuple(forms),
        same,
        noise,
        (
            *notes,
            *([f"no gradient: {reason}"] if reason else []),
            *(f"{form!r} cannot call this module: {why}" for form, why in refused.items()),
            *advice(rows, forms, num_leaves, params_bytes, noise),
            *([OWN_STATE] if has_state else []),
        ),
    )


def runners_of(subject: Subject) -> dict[str, Runner]:
    """Linen, NNX and, of a case that is written in it, plain JAX, each with its weights."""
    runners = {name: runner(subject) for name, runner in RUNNERS.items()}
    plain = pure(subject.case) if subject.case else None
    if plain:
        runners["jax"] = _plain_runner(plain, runners["linen"].held)
    return {
        name: dataclasses.replace(runner, held=on_each(runner.held))
        for name, runner in runners.items()
    }


def _check_memory(subject: Subject) -> None:
    of_linen = jax.eval_shape(subject.linen_init, SEED)
    of_nnx = jax.eval_shape(lambda seed: nnx_weights(subject, seed), SEED)
    most = max(map(bytes_of, (of_linen, of_nnx)))
    check_memory(f"the weights, held {HELD} times,", HELD * most)


def _plain_runner(plain: Pure, variables: Any) -> Runner:
    """Hand-written JAX: a tuple of arrays."""
    paths = plain.leaves(unflatten({path: path for path in flatten(variables)}))
    names = [str(path) for path in paths]
    is_param = [name.startswith("params/") for name in names]

    def gradient(leaves, *inputs):
        def loss(params):
            given = iter(params)
            every = (next(given) if mine else x for x, mine in zip(leaves, is_param, strict=True))
            return total(plain.forward(tuple(every), *inputs))

        params = tuple(x for x, mine in zip(leaves, is_param, strict=True) if mine)
        return jax.value_and_grad(loss)(params)

    functions = {"forward": plain.forward, "gradient": gradient, "nothing": nothing}
    return Runner(None, plain.leaves(variables), functions, names, lambda kind, returned: returned)


def _described(x: jax.Array) -> str:
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"
