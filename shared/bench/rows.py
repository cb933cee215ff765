"""The rows of the tables: what is measured, of each column."""

import functools
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from shared.bench.compilations import count_compilations
from shared.bench.stages import Stages, stages
from shared.bench.timing import Call, in_turns, ratio
from shared.errors import first_line
from shared.models.devices import module_on_each
from shared.models.forms import FORMS
from shared.models.subject import SEED, Runner, Subject, of_module, training_step
from shared.report.measured import Quantity, Ratio

# What a call computes, by what a report calls it.
TITLES = {
    "forward": "forward",
    "gradient": "value and gradient",
    "nothing": "dispatch alone",
}

COMPILED_EAGERLY = "forward, not jitted: compiled again"

TRAINING = "training step"

Functions = Mapping[str, tuple]


def arguments(runners: Mapping[str, Runner], kind: str, inputs: tuple) -> dict[str, tuple]:
    """{column: (function, its arguments)}."""
    return {name: (r.functions[kind], r.held, *inputs) for name, r in runners.items()}


def jitted(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """A call of `function` that has been compiled."""
    compiled = jax.jit(lambda *args: function(*args))
    jax.block_until_ready(compiled(*args))
    return lambda: compiled(*args)


def stepping(function: Callable[..., Any], held: Any, *inputs: Any) -> Callable[[], Any]:
    """A call of a compiled training step, which writes over the weights that the last one made."""
    compiled = jax.jit(lambda held, *inputs: function(held, *inputs), donate_argnums=0)
    kept = [jax.tree.map(jnp.copy, held)]

    def step() -> jax.Array:
        value, kept[0] = compiled(kept[0], *inputs)
        return value

    jax.block_until_ready(step())
    return step


def made_ready(
    functions: Functions, times: int, donated: tuple[int, ...] = ()
) -> dict[str, list[Stages]]:
    """{column: its stages, `times` times in turns}. A first time, which warms up, is left out."""
    names, order = list(functions), random.Random(0)
    stages(*functions[names[0]], donated=donated)
    found: dict[str, list[Stages]] = {name: [] for name in names}
    for _ in range(times):
        order.shuffle(names)
        for name in names:
            found[name].append(stages(*functions[name], donated=donated))
    return {name: found[name] for name in functions}


def init_rows(
    runners: Mapping[str, Runner], params_bytes: int, seconds: float, times: int
) -> Iterator[Quantity]:
    """Making the weights: the first time, again, and the memory that it takes."""
    inits = {name: runner.init for name, runner in runners.items() if runner.init}
    found = made_ready({name: (init, SEED) for name, init in inits.items()}, times)
    first = {name: [each.seconds for each in all_] for name, all_ in found.items()}
    yield timed_row("init, jitted: trace, lower, compile", first)
    yield timed_row(
        "init, jitted: again",
        in_turns({n: jitted(init, SEED) for n, init in inits.items()}, seconds / 4),
    )
    for init in inits.values():
        jax.block_until_ready(_eager(init))
    eager = {name: functools.partial(_eager, init) for name, init in inits.items()}
    yield timed_row("init, not jitted: again", in_turns(eager, seconds / 4, fewest=3))
    if params_bytes:
        sizes = {name: all_[-1].peak_bytes for name, all_ in found.items()}
        yield _row("init, jitted: memory", "params", sizes, params_bytes)


def _eager(init: Callable[[Any], Any]) -> list[Any]:
    return jax.tree.leaves(init(SEED))


def stage_rows(title: str, found: Mapping[str, Sequence[Stages]]) -> Iterator[Quantity]:
    for stage in ("trace", "lower", "compile"):
        seconds = {name: [getattr(each, stage) for each in all_] for name, all_ in found.items()}
        yield timed_row(f"{title}: {stage}", seconds)


def size_rows(title: str, found: Mapping[str, Sequence[Stages]]) -> Iterator[Quantity]:
    for what in ("argument", "output", "temp"):
        sizes = {name: getattr(all_[-1], f"{what}_bytes") for name, all_ in found.items()}
        yield _row(f"{title}: {what} bytes", "bytes", sizes)
    flops = {name: all_[-1].flops for name, all_ in found.items()}
    yield _row(f"{title}: operations", "flops", flops)


def eager_rows(subject: Subject, variables: Any, seconds: float) -> Iterator[Quantity]:
    """A forward pass that is not jitted: what a user sees who tries out a model."""
    module = module_on_each(subject.nnx_init(SEED))
    calls = {
        "linen": lambda: subject.linen_call(variables, *subject.inputs),
        "nnx": lambda: subject.nnx_call(module, *subject.inputs),
    }
    for call in calls.values():
        jax.block_until_ready(call())
    counts = {name: count_compilations(call) for name, call in calls.items()}
    yield timed_row("forward, not jitted", in_turns(calls, seconds / 4, fewest=3))
    yield Quantity(COMPILED_EAGERLY, "programs", counts, {})


def training_rows(
    runners: Mapping[str, Runner], inputs: tuple, seconds: float, times: int
) -> Iterator[Quantity]:
    """A step of gradient descent, to which the weights are donated: what each implementation takes.

    Its program has other outputs than the gradient alone, and its memory is that of training.
    """
    functions = {
        name: (training_step(runner), runner.held, *inputs) for name, runner in runners.items()
    }
    found = made_ready(functions, times, donated=(0,))
    yield from size_rows(TRAINING, found)
    calls = {name: stepping(*words) for name, words in functions.items()}
    yield timed_row(TRAINING, in_turns(calls, seconds))


def form_rows(
    subject: Subject, kinds: Sequence[str], seconds: float
) -> tuple[list[Quantity], dict[str, str]]:
    """What each form of the call costs, and why a form cannot call this module: {form: reason}."""
    refused: dict[str, str] = {}
    functions, module = of_module(subject), module_on_each(subject.nnx_init(SEED))
    calls: dict[str, Call] = {}
    for name, form in FORMS.items():
        made = {
            kind: functools.partial(form(module, functions[kind]), *subject.inputs)
            for kind in kinds
        }
        try:
            for call in made.values():
                jax.block_until_ready(call())
        except ValueError as error:  # the model itself has been run before
            refused[name] = first_line(error).split(". ")[0]
            continue
        calls |= {f"{kind} {name}": call for kind, call in made.items()}
    timed = in_turns(calls, seconds)
    names = [name for name in FORMS if name not in refused]
    rows = [timed_row(TITLES[kind], {n: timed[f"{kind} {n}"] for n in names}) for kind in kinds]
    return rows, refused


def each_leaf_row(
    runners: Mapping[str, Runner], timed: Mapping[str, Sequence[float]], empty: Sequence[float]
) -> Quantity:
    """How much of a call that computes nothing is due to each leaf of the weights.

    Args:
      timed: {column: seconds of such a call}; empty: of one without any leaf, in the same rounds.
    """
    rest, values = statistics.median(empty), {}
    for column, runner in runners.items():
        if leaves := len(jax.tree.leaves(runner.held)):
            values[column] = max(0.0, statistics.median(timed[column]) - rest) / leaves
    return Quantity(f"{TITLES['nothing']}: each leaf", "s", values, {})


def timed_row(name: str, seconds: Mapping[str, Sequence[float]]) -> Quantity:
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
