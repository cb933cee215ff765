"""The story of a benchmark: a subject -> programs -> times in turns -> tables -> advice."""

import functools
import math
import os
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from shared.bench.advice import advice
from shared.bench.programs import same_as_first
from shared.bench.pure_jax import Pure, pure
from shared.bench.stages import Stages, stages
from shared.bench.timing import in_turns, ratio
from shared.errors import InputError
from shared.models.forms import FORMS
from shared.models.subject import (
    Runner,
    Subject,
    linen_runner,
    nnx_runner,
    no_gradient,
    nothing,
    of_module,
    total,
)
from shared.report.measured import Benchmark, Quantity, Ratio
from shared.trees import flatten, unflatten


class Budget(NamedTuple):
    """How long a benchmark may take.

    Attributes:
      seconds: of what is timed in turns, for each table.
      times: how often a program is made ready.
    """

    seconds: float
    times: int


FULL, QUICK = Budget(10.0, 5), Budget(2.0, 1)
# What a call computes, by what a report calls it.
TITLES = {
    "forward": "forward",
    "gradient": "value and gradient",
    "nothing": "dispatch alone",
}

NUM_STEPS = 6
# How many times its weights a benchmark holds, at most: those of both models, of a module that is
# called, the outputs of a call and gradients.
HELD = 6
Progress = Callable[[str], None]
Functions = Mapping[str, tuple]


def bench(
    subject: Subject,
    budget: Budget = FULL,
    progress: Progress = lambda step: None,
    names: Mapping[str, str] | None = None,
) -> Benchmark:
    """Measures both models of `subject`, and the forms of its NNX module.

    Args:
      subject: the models and the inputs of one call.
      budget: how long it may take.
      progress: is told what is measured next.
      names: {a leaf of NNX: the leaf of Linen that holds the same}; without, programs are not
        compared.

    Raises:
      InputError: the weights do not fit into memory as often as they are held.
    """
    seconds, times = budget
    _check_memory(subject)
    progress("init")
    runners = {"linen": linen_runner(subject), "nnx": nnx_runner(subject)}
    held = runners["linen"].held
    params_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(held))
    plain = pure(subject.case) if subject.case else None
    if plain:
        runners["jax"] = _plain_runner(plain, held)
    reason = no_gradient(runners["linen"], subject.inputs)
    kinds = [kind for kind in TITLES if kind != "gradient" or not reason]

    rows = list(_init_rows(runners, params_bytes, seconds, times))
    same = {}
    for kind in (kind for kind in kinds if kind != "nothing"):
        progress(f"{TITLES[kind]}: trace, lower, compile")
        if names is not None:
            same[TITLES[kind]] = same_as_first(runners, kind, subject.inputs, names)
        found = _made_ready(_arguments(runners, kind, subject.inputs), times)
        rows += [*_stage_rows(TITLES[kind], found), *_size_rows(TITLES[kind], found, params_bytes)]

    progress("calls in turns")
    calls = {
        f"{kind} {name}": _jitted(*words)
        for kind in kinds
        for name, words in _arguments(runners, kind, subject.inputs).items()
    }
    calls["again"] = _jitted(*_arguments(runners, "forward", subject.inputs)["linen"])
    timed = in_turns(calls, seconds)
    for kind in kinds:
        rows.append(_timed_row(TITLES[kind], {n: timed[f"{kind} {n}"] for n in runners}))

    progress("forms of the call")
    forms = tuple(_form_rows(subject, kinds, seconds))
    num_leaves = len(runners["nnx"].held)
    noise = ratio(timed["again"], timed["forward linen"])
    return Benchmark(
        subject.name,
        ", ".join(map(_described, jax.tree.leaves(subject.inputs))),
        num_leaves,
        params_bytes,
        tuple(rows),
        forms,
        same,
        noise,
        (
            *([f"no gradient: {reason}"] if reason else []),
            *advice(rows, forms, num_leaves, params_bytes, noise),
        ),
    )


def _check_memory(subject: Subject) -> None:
    specs = jax.tree.leaves(jax.eval_shape(subject.linen_init))
    needed = HELD * sum(math.prod(x.shape) * x.dtype.itemsize for x in specs)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > free:
        raise InputError(
            f"{subject.name}: the weights, held {HELD} times, would take "
            f"{needed / 2**30:,.1f} GiB, {free / 2**30:,.1f} GiB are free; choose smaller sizes"
        )


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


def _arguments(runners: Mapping[str, Runner], kind: str, inputs: tuple) -> dict[str, tuple]:
    """{column: (function, its arguments)}."""
    return {name: (r.functions[kind], r.held, *inputs) for name, r in runners.items()}


def _jitted(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """A call of `function` that has been compiled."""
    compiled = jax.jit(lambda *args: function(*args))
    jax.block_until_ready(compiled(*args))
    return lambda: compiled(*args)


def _made_ready(functions: Functions, times: int) -> dict[str, list[Stages]]:
    """{column: its stages, `times` times in turns}. A first time, which warms up, is left out."""
    names, order = list(functions), random.Random(0)
    stages(*functions[names[0]])
    found: dict[str, list[Stages]] = {name: [] for name in names}
    for _ in range(times):
        order.shuffle(names)
        for name in names:
            found[name].append(stages(*functions[name]))
    return {name: found[name] for name in functions}


def _init_rows(
    runners: Mapping[str, Runner], params_bytes: int, seconds: float, times: int
) -> Iterator[Quantity]:
    """Making the weights: the first time, again, and the memory that it takes."""
    inits = {name: runner.init for name, runner in runners.items() if runner.init}
    found = _made_ready({name: (init,) for name, init in inits.items()}, times)
    first = {name: [each.seconds for each in all_] for name, all_ in found.items()}
    yield _timed_row("init, jitted: trace, lower, compile", first)
    yield _timed_row(
        "init, jitted: again",
        in_turns({n: _jitted(init) for n, init in inits.items()}, seconds / 4),
    )
    for init in inits.values():
        jax.block_until_ready(jax.tree.leaves(init()))
    eager = {name: functools.partial(_eager, init) for name, init in inits.items()}
    yield _timed_row("init, not jitted: again", in_turns(eager, seconds / 4, fewest=3))
    sizes = {name: all_[-1].peak_bytes for name, all_ in found.items()}
    yield _row("init, jitted: memory", "params", sizes, params_bytes)


def _eager(init: Callable[[], Any]) -> list[Any]:
    return jax.tree.leaves(init())


def _stage_rows(title: str, found: Mapping[str, Sequence[Stages]]) -> Iterator[Quantity]:
    for stage in ("trace", "lower", "compile"):
        seconds = {name: [getattr(each, stage) for each in all_] for name, all_ in found.items()}
        yield _timed_row(f"{title}: {stage}", seconds)


def _size_rows(
    title: str, found: Mapping[str, Sequence[Stages]], params_bytes: int
) -> Iterator[Quantity]:
    for what in ("argument", "output", "temp"):
        sizes = {name: getattr(all_[-1], f"{what}_bytes") for name, all_ in found.items()}
        yield _row(f"{title}: {what} bytes", "bytes", sizes)
    flops = {name: all_[-1].flops for name, all_ in found.items()}
    yield _row(f"{title}: operations", "flops", flops)


def _form_rows(subject: Subject, kinds: Sequence[str], seconds: float) -> Iterator[Quantity]:
    """What each form of the call costs."""
    functions, module, calls = of_module(subject), subject.nnx_init(), {}
    for kind in kinds:
        for name, form in FORMS.items():
            call = functools.partial(form(module, functions[kind]), *subject.inputs)
            jax.block_until_ready(call())
            calls[f"{kind} {name}"] = call
    timed = in_turns(calls, seconds)
    for kind in kinds:
        yield _timed_row(TITLES[kind], {name: timed[f"{kind} {name}"] for name in FORMS})


def _timed_row(name: str, seconds: Mapping[str, Sequence[float]]) -> Quantity:
    first = next(iter(seconds.values()))
    return Quantity(
        name,
        "s",
        {column: statistics.median(all_) for column, all_ in seconds.items()},
        {column: ratio(all_, first) for column, all_ in seconds.items()},
    )


def _row(name: str, unit: str, numbers: Mapping[str, float | None], divisor: float = 1) -> Quantity:
    known = {c: number / divisor for c, number in numbers.items() if number is not None}
    first = next(iter(known.values()), 0)
    ratios = {c: Ratio(*[n / first] * 3) for c, n in known.items() if first}
    return Quantity(name, unit, known, ratios)


def _described(x: jax.Array) -> str:
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"
