"""How long it takes to make a program, and how that grows: by layers, by batch, by features."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import linen_impl.composed
import linen_impl.layer_list
import nnx_impl.composed
import nnx_impl.layer_list
from linen_impl.rngs import linen_rngs
from shared.bench.pure_jax import leaves_of, pure
from shared.bench.rows import timed_row
from shared.bench.stages import Stages, stages
from shared.cases import CASES
from shared.models.subject import SEED, Subject, linen_runner, nnx_runner, total
from shared.report.measured import Quantity, Ratio, Table

# What is made ready, by what the rows call it.
FORWARD, GRADIENT, INIT, PEAK = "forward", "value and gradient", "init", "init: peak bytes"
# How often, where it takes less than so many seconds; else once.
TIMES, LONG = 3, 2.0
# Size from which on a power is fitted: below, what does not grow is most of it.
FITTED_FROM = 16


class Sizes(NamedTuple):
    """What is varied, of which case, and what is not."""

    title: str
    case: str
    axis: str
    values: tuple[int, ...]
    fixed: Mapping[str, int]
    notes: tuple[str, ...] = ()


SCANNED = Sizes(
    "num_layers, scanned",
    "shared",
    "num_layers",
    (4, 16, 64, 256, 1024),
    {"batch_size": 8, "features": 64},
)
IN_A_LOOP = Sizes(
    "num_layers, in a loop",
    "layer_list",
    "num_layers",
    (4, 16, 64, 256),
    {"batch_size": 8, "features": 64},
    ("1024 layers in a loop are left out: they take minutes.",),
)
BATCH = Sizes(
    "batch_size",
    "shared",
    "batch_size",
    (8, 32, 128, 512),
    {"num_layers": 4, "features": 64},
)
FEATURES = Sizes(
    "features",
    "shared",
    "features",
    (64, 256, 1024),
    {"num_layers": 4, "batch_size": 8},
)
ALL = (SCANNED, IN_A_LOOP, BATCH, FEATURES)

# What is made ready, the size, the column.
Key = tuple[str, int, str]


def measure() -> list[Table]:
    tables = [table(sizes) for sizes in ALL]
    return [*tables, exponents(list(zip(ALL, tables, strict=True)))]


def table(sizes: Sizes) -> Table:
    """Rows named "forward: trace, 16"; those of one quantity stand together."""
    found = made_ready(
        {
            (what, value, column): words
            for value in sizes.values
            for what, columns in functions(subject(sizes, value)).items()
            for column, words in columns.items()
        }
    )

    def columns(what: str, value: int) -> dict[str, list[Stages]]:
        return {key[2]: all_ for key, all_ in found.items() if key[:2] == (what, value)}

    rows = [
        timed_row(f"{what}: {stage}, {value}", _seconds(columns(what, value), stage))
        for what in (FORWARD, GRADIENT)
        for stage in ("trace", "lower", "compile")
        for value in sizes.values
    ]
    inits = {value: columns(INIT, value) for value in sizes.values}
    rows += [timed_row(f"{INIT}, {value}", _seconds(of, "seconds")) for value, of in inits.items()]
    rows += [_peak(value, of) for value, of in inits.items()]
    fixed = ", ".join(f"{name}={value}" for name, value in sizes.fixed.items())
    return Table(
        f"To make a program ready, by {sizes.title} ({fixed})",
        tuple(rows),
        (
            "JAX's caches are cleared before each; init is trace, lower and compile together.",
            f"Medians of {TIMES}; of what takes over {LONG:g} s, one time.",
            "Peak bytes are the output and what XLA plans to need on the way.",
            "NNX draws the weights from its own streams, an `nnx.Rngs`.",
            *sizes.notes,
        ),
    )


def _seconds(found: Mapping[str, Sequence[Stages]], stage: str) -> dict[str, list[float]]:
    return {column: [getattr(each, stage) for each in all_] for column, all_ in found.items()}


def _peak(value: int, found: Mapping[str, Sequence[Stages]]) -> Quantity:
    sizes = {name: float(all_[-1].peak_bytes or 0) for name, all_ in found.items()}
    first = next(iter(sizes.values()))
    ratios = {name: Ratio(*[size / first] * 3) for name, size in sizes.items()}
    return Quantity(f"{PEAK}, {value}", "bytes", sizes, ratios)


def subject(sizes: Sizes, value: int) -> Subject:
    """The twins of a case, called as their users call them, at one of the sizes."""
    given = {**sizes.fixed, sizes.axis: value}
    num_layers, features = given["num_layers"], given["features"]
    x = jnp.ones((given["batch_size"], features))
    if sizes.case == "layer_list":
        model, twin = linen_impl.layer_list.LayerList(num_layers, features), nnx_impl.layer_list
        args, make = (), twin.LayerList
    else:
        model, args = linen_impl.composed.Shared(num_layers, features), (None,)
        make = nnx_impl.composed.Shared

    def linen_call(variables, x):
        outputs = model.apply(variables, x, *args)
        return outputs[0] if args else outputs, {}

    return Subject(
        sizes.case,
        (x,),
        lambda seed: model.init(linen_rngs(seed), x, *args),
        linen_call,
        lambda seed: make(num_layers, features, rngs=nnx.Rngs(jax.random.key(seed))),
        lambda module, x: module(x),
        dataclasses.replace(CASES[sizes.case], **given),
    )


def functions(subject: Subject) -> dict[str, dict[str, tuple]]:
    """{what is made ready: {column: (a function, its arguments)}}. Plain JAX has no init here."""
    abstract = _without_weights(subject)
    linen, twin = linen_runner(abstract), nnx_runner(abstract)
    plain = pure(subject.case) if subject.case else None
    assert plain is not None

    def gradient(leaves, x):
        return jax.value_and_grad(lambda leaves: total(plain.forward(leaves, x)))(leaves)

    def columns(kind: str, of_plain: Callable[..., Any]) -> dict[str, tuple]:
        return {
            "linen": (linen.functions[kind], linen.held, *subject.inputs),
            "nnx": (twin.functions[kind], twin.held, *subject.inputs),
            "jax": (of_plain, leaves_of(linen.held), *subject.inputs),
        }

    return {
        FORWARD: columns("forward", plain.forward),
        GRADIENT: columns("gradient", gradient),
        INIT: {
            "linen": (subject.linen_init, SEED),
            "nnx": (lambda seed: nnx.split(subject.nnx_init(seed))[1], SEED),
        },
    }


def _without_weights(subject: Subject) -> Subject:
    """The same with zeros: in a loop, to make the weights takes as long as the rest."""
    specs = jax.eval_shape(subject.linen_init, SEED)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: subject.nnx_init(SEED)))

    def zeros(specs):
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), specs)

    return dataclasses.replace(
        subject,
        linen_init=lambda seed: zeros(specs),
        nnx_init=lambda seed: nnx.merge(graphdef, zeros(state)),
    )


def made_ready(functions: Mapping[Key, tuple]) -> dict[Key, list[Stages]]:
    """{key: the stages of its function}, `TIMES` times; of what takes long, once.

    In turns through all sizes: how busy the machine is does not go with a size.
    """
    found: dict[Key, list[Stages]] = {key: [] for key in functions}
    for _ in range(TIMES):
        for key, words in functions.items():
            if not found[key] or found[key][0].seconds < LONG:
                found[key].append(stages(*words))
    # One time stands for all, so that there is a ratio to it in each turn.
    return {key: all_ * (TIMES // len(all_)) for key, all_ in found.items()}


def exponents(tables: Sequence[tuple[Sizes, Table]]) -> Table:
    """Of the power of a size that each quantity grows as."""
    rows = []
    for sizes, table in tables:
        fitted = [value for value in sizes.values if value >= FITTED_FROM]
        values = {row.name: row.values for row in table.rows}
        for what in dict.fromkeys(name.rsplit(", ", 1)[0] for name in values):
            of = [values[f"{what}, {value}"] for value in fitted]
            powers = {name: exponent(fitted, [each[name] for each in of]) for name in of[0]}
            rows.append(Quantity(f"{sizes.title}: {what}", "exponent", powers, {}))
    ranges = "; ".join(
        f"{sizes.title} {min(v for v in sizes.values if v >= FITTED_FROM)} ... {sizes.values[-1]}"
        for sizes, _ in tables
    )
    return Table("How it grows", tuple(rows), (f"Least squares of the logarithms: {ranges}.",))


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """That of the power of a size which fits `values` best; both are positive."""
    power = float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
    return round(power, 9) + 0.0  # of what does not grow 0, and not the rounding of the fit
