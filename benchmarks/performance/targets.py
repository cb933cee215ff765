"""What the twins are to reach, and what was measured of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from shared.report.measured import Quantity, Ratio, Table
from shared.report.quantities import bytes_text, number_text, spread

Tables = Mapping[str, Sequence[Table]]
SIZES = ("(8, 4, 64)", "(32, 12, 256)", "(64, 24, 512)", "(256, 48, 1024)")
KINDS = ("forward", "value and gradient")


class Target(NamedTuple):
    """One quantity and its limit.

    Attributes:
      quantity: what over what.
      reach: at most this, in words; measured: what it is.
      verdict: "yes", "no", or "within noise", where two equal programs are as far apart.
    """

    quantity: str
    reach: str
    measured: str
    verdict: str


def targets(tables: Tables) -> list[Target]:
    """All of them, in the order of the sections."""
    return [
        *_programs(tables),
        *_steps(tables),
        *_limits(tables),
        *_training(tables),
        *_host(tables),
        *_ready(tables),
        *_init(tables),
        *_processes(tables),
    ]


def _programs(tables: Tables) -> Iterator[Target]:
    rows = tables["programs"][0].rows
    same = sum(all(row.values.values()) for row in rows)
    yield Target(
        "optimised program of NNX and of plain JAX, forward and gradient: that of Linen",
        "all cases",
        f"{same} of {len(rows)} cases",
        "yes" if same == len(rows) else "no",
    )


def _steps(tables: Tables) -> Iterator[Target]:
    for kind in KINDS:
        for size in SIZES:
            row = _row(tables["steps"], f"{kind} {size}, to plain JAX")
            noise = row.ratios["jax again"]
            yield limited(f"{kind} {size}: NNX / plain JAX", 1.05, row.ratios["nnx"], noise)


def _limits(tables: Tables) -> Iterator[Target]:
    for kind, number, limit in ((KINDS[0], "N", 1.05), (KINDS[1], "3N - 1", 1.25)):
        for size in SIZES[2:]:
            ratios = _row(tables["steps"], f"{kind} {size}, to products").ratios
            yield limited(
                f"{kind} {size}: NNX / {number} plain products",
                limit,
                ratios["nnx"],
                ratios["plain products again"],
            )
    ratios = _row(tables["steps"], f"forward {SIZES[1]}, to products").ratios
    yield limited(
        f"forward {SIZES[1]}: NNX's list of layers / plain products",
        1.05,
        ratios["nnx layer list"],
        ratios["plain products again"],
    )


def _training(tables: Tables) -> Iterator[Target]:
    row = _row(tables["training"], "train step")
    for name in ("linen", "nnx"):
        words = f"a step of training: {name} / plain JAX"
        yield limited(words, 1.05, row.ratios[name], row.ratios["jax again"])
    memory = _row(tables["training"], "train step: temp bytes").ratios["nnx"]
    yield limited("a step of training: temporary memory, nnx / plain JAX", 1.0, memory)


def _host(tables: Tables) -> Iterator[Target]:
    for name in ("linen", "nnx"):
        row = _row(tables["dispatch"], f"{name}, to init, then forward")
        yield limited(
            f"composed_lifts_forward called again, {name} / its two jitted programs",
            1.5,
            row.ratios["composed_lifts_forward"],
        )
    row, ours = _row(tables["dispatch"], "100 leaves"), "nnx, split, flat leaves"
    others = (("jax, tuple of leaves", 1.1), ("linen", 0.8), ("equinox filter_jit", 0.25))
    for other, limit in others:
        if other in row.values:
            words = f"host, 100 leaves: NNX, flat leaves / {other}"
            yield limited(words, limit, _over(row, ours, other))
    ratio = _row(tables["dispatch"], "a call").ratios["nnx"]
    yield limited("a call without jit: NNX / Linen", 0.02, ratio)


def _ready(tables: Tables) -> Iterator[Target]:
    rows = [row for row in tables["growth"][0].rows if row.name.startswith("forward: trace")]
    worst = max(rows, key=lambda row: row.ratios["nnx"].median)
    words = f"trace, {worst.name.rpartition(', ')[2]} layers, scanned, the worst: NNX / Linen"
    yield limited(words, 0.45, worst.ratios["nnx"])
    for kind in KINDS:
        for stage in ("trace", "lower", "compile"):
            row = _row(tables["growth"], f"num_layers, scanned: {kind}: {stage}")
            power = row.values["nnx"]
            words = f"{kind}: exponent of {stage} in num_layers, scanned"
            yield limited(words, 0.1, power)


def _init(tables: Tables) -> Iterator[Target]:
    peak = _row(tables["memory"], "peak, over the bytes of the weights")
    words = "init in jit, NNX: peak memory / weights"
    yield limited(words, 1.2, peak.values["nnx, init in jit"])
    again = _row(tables["memory"], "init, again").ratios["nnx, init in jit"]
    yield limited("init again: NNX in jit / Linen without jit", 0.02, again)
    first = _row(tables["memory"], "init: trace, lower, compile").ratios["nnx"]
    yield limited("init in jit, the first time: NNX / Linen", 1.0, first)


def _processes(tables: Tables) -> Iterator[Target]:
    row = _row(tables["processes"], "to the first result")
    for other, limit in (("linen", 1.05), ("jax", 1.15)):
        ratio = _over(row, "nnx", other) if other != "jax" else row.ratios["nnx"]
        yield limited(f"start of a process to the first result: NNX / {other}", limit, ratio)
    for name, limit, unit in (
        ("verify", 10.0, "s"),
        ("peak resident memory of the process", 400 * 2.0**20, "bytes"),
    ):
        row = _row(tables["structure"], name)
        worst = max(row.values, key=lambda column: row.values[column])
        most = number_text(limit, unit) if unit == "s" else bytes_text(limit)
        yield Target(
            f"verify --checks=structure of a decoder of 70B, {worst}, the worst: {name}",
            f"<= {most}",
            number_text(row.values[worst], unit),
            "yes" if row.values[worst] <= limit else "no",
        )


def _row(tables: Sequence[Table], name: str) -> Quantity:
    (found,) = (row for table in tables for row in table.rows if row.name == name)
    return found


def _over(row: Quantity, column: str, other: str) -> float:
    return row.values[column] / row.values[other]


def limited(
    quantity: str,
    limit: float,
    measured: Ratio | float,
    noise: Ratio | None = None,
) -> Target:
    """A target that is reached by what is at most `limit`."""
    if isinstance(measured, Ratio):
        text, value = spread(measured), measured.median
    else:
        text, value = f"{measured + 0.0:.2f}".replace("-0.00", "0.00"), measured
    verdict = "yes" if value <= limit else "no"
    if noise is not None and value > limit:
        verdict = "within noise" if value <= noise.high else "no"
        text += f", two equal programs {spread(noise)}"
    return Target(quantity, f"<= {limit:g}", text, verdict)
