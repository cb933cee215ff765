"""Times of a forward pass and of a gradient of the exercise, in all frameworks, in one process."""

import os

import numpy as np

from benchmarks.performance import limits, peers
from benchmarks.performance.peers import Column, Weights
from shared.bench.rows import TITLES, timed_row
from shared.bench.timing import LONG, in_turns
from shared.report.measured import Quantity, Ratio, Table

# (B, N, F): examples, layers, features.
SIZES = ((8, 4, 64), (32, 12, 256), (64, 24, 512), (256, 48, 1024))
# For each size, if the fewest rounds do not take longer.
SECONDS = {"forward": 4.0, "gradient": 6.0}
FEWEST, FEWEST_OF_FEW = 7, 11
LIMIT, AGAIN = "plain products", "plain products again"
# The twins, with what they are compared with, and nothing else beside.
OURS = ("jax", "jax again", "nnx", "nnx layer list")
TO_LIMIT = (LIMIT, AGAIN, *OURS)
# Of the largest number: sums of up to 1024 float32 are made in another order, in up to 48 layers.
OUTPUTS_TOLERANCE = 1e-5
# The same; and what is rounded to the other side of 0 passes relu, and has a gradient, or has none.
GRADIENTS_TOLERANCE = 2e-2

Size = tuple[int, int, int]
Times = dict[str, list[float]]


def measure() -> list[Table]:
    """Forward, value and gradient, what is reached of the machine's peak, what a scan costs."""
    rows: dict[str, list[Quantity]] = {"forward": [], "gradient": []}
    notes: list[str] = []
    forwards: dict[Size, Times] = {}
    beside: list[Quantity] = []
    scans: list[Quantity] = []
    ways: list[Quantity] = []
    large: dict[str, float] = {}
    for size in SIZES:
        weights, x = made(size)
        columns, said = peers.columns(weights, x)
        notes += [*said, compared(size, columns)]
        alone, again = (
            dict(zip(rows, limits.plain_products(weights, x), strict=True)) for _ in range(2)
        )
        for kind, seconds in SECONDS.items():
            calls = {name: getattr(column, kind) for name, column in columns.items()}
            timed = in_turns({**calls, LIMIT: alone[kind]}, seconds, fewest=FEWEST)
            rows[kind].append(timed_row(f"{TITLES[kind]} {size}", timed))
            if kind == "forward":
                forwards[size] = timed
            few = {name: calls[name] for name in OURS} | {LIMIT: alone[kind], AGAIN: again[kind]}
            timed = in_turns(few, seconds, fewest=FEWEST_OF_FEW)
            what = f"{TITLES[kind]} {size}"
            beside.append(timed_row(f"{what}, to plain JAX", {n: timed[n] for n in OURS}))
            beside.append(timed_row(f"{what}, to products", {n: timed[n] for n in TO_LIMIT}))
        scans += limits.scan_rows(size, weights, x)
        ways.append(limits.ways_to_scan(size, weights, x))
        # At several times, for another process takes of what can be reached.
        for name, speed in limits.large_products().items():
            large[name] = max(speed, large.get(name, 0.0))
    what = "of (examples, layers, features), float32"
    return [
        Table(f"Forward {what}", tuple(rows["forward"]), notes_on_times(notes)),
        Table(f"Value and gradient by all weights {what}", tuple(rows["gradient"])),
        Table(
            "The twins, plain JAX and the products alone, in turns of their own",
            tuple(beside),
            (f"{AGAIN}: the same program, compiled once more.",),
        ),
        peak_table(large, forwards),
        Table(
            f"A scan beside a list {what}",
            tuple(scans),
            (
                "The body of a scan copies a layer's weights from the stack before XLA's product "
                "reads them; the loops of its gradient do so once each, and one copies the "
                "gradient to its stack. Counted in the optimised HLO: slices of a stack, of the "
                "size of a layer's weights, that are a result of their own. The scan of copies "
                "does nothing else.",
            ),
        ),
        Table("Other ways to scan, in plain JAX", tuple(ways)),
    ]


def made(size: Size) -> tuple[Weights, np.ndarray]:
    """Weights and inputs (B, F) of a size, such that outputs stay about as large as inputs."""
    batch_size, num_layers, features = size
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((num_layers, features, features), np.float32)
    kernel *= np.float32((2 / features) ** 0.5)
    bias = rng.standard_normal((num_layers, features), np.float32) / 10
    return Weights(bias, kernel), rng.standard_normal((batch_size, features), np.float32)


def compared(size: Size, columns: dict[str, Column]) -> str:
    """Compares the results of all columns with those of the first, and says how far they are."""
    (first, *_), others = columns.items(), list(columns.items())[1:]
    outputs, (value, gradient) = results(first[1])
    worst = {"outputs": (0.0, ""), "gradients": (0.0, "")}
    for name, column in others:
        its_outputs, (its_value, its_gradient) = results(column)
        assert its_outputs.shape == outputs.shape
        found = {
            "outputs": [difference(its_outputs, outputs, OUTPUTS_TOLERANCE, name)],
            "gradients": [
                difference(its, expected, GRADIENTS_TOLERANCE, name)
                for its, expected in zip(its_gradient, gradient, strict=True)
            ],
        }
        np.testing.assert_allclose(its_value, value, rtol=OUTPUTS_TOLERANCE, err_msg=name)
        for what, those in found.items():
            worst[what] = max(worst[what], (max(those), name))
    said = ", ".join(f"{what} by {far:.1e} ({name})" for what, (far, name) in worst.items() if name)
    return f"{size}: from those of hand-written JAX differ, at most and of the largest, {said}."


def results(column: Column) -> tuple[np.ndarray, tuple[float, Weights]]:
    return column.outputs(column.forward()), column.gradients(column.gradient())


def difference(found: np.ndarray, expected: np.ndarray, tolerance: float, name: str) -> float:
    """The largest difference, as a part of the largest number.

    Raises:
      AssertionError: it is more than the tolerance.
    """
    largest = float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest, err_msg=name)
    return float(np.abs(found - expected).max()) / largest


def notes_on_times(notes: list[str]) -> tuple[str, ...]:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]  # type: ignore[index]
    return (
        f"All columns ran in turns in one process on {os.cpu_count()} cores, each with weights of "
        f"its own, at least {FEWEST} rounds; in its turn each is called, untimed, before it is "
        f"timed, if it takes less than {LONG} s. Ratios are of the same round: their median "
        "and tenths.",
        "jax again is the same program, compiled once more: its ratio is the noise.",
        f"{LIMIT}: N products of the forward pass, 3N-1 of the gradient, in one program, without "
        "bias, relu and loop; counted in what XLA compiled. Each is an argument of another or is "
        "returned, so none is dropped.",
        f"NumPy's BLAS is {blas}.",
        *dict.fromkeys(notes),
    )


def peak_table(large: dict[str, float], forwards: dict[Size, Times]) -> Table:
    """GFLOP/s of the best round: `large` of one large product, `forwards` are seconds."""
    shown = {"jax": "jax", "numpy": "numpy", "torch": "torch eager", LIMIT: LIMIT}
    title = f"one product of {limits.LARGE} x {limits.LARGE} x {limits.LARGE}"
    rows, notes = [_speeds(title, large)], []
    for size, times in forwards.items():
        batch_size, num_layers, features = size
        flops = 2 * batch_size * num_layers * features**2
        speeds = {
            column: flops / min(times[name]) / 1e9
            for column, name in shown.items()
            if name in times
        }
        rows.append(_speeds(f"forward {size}", speeds))
        of_peak = {name: f"{speeds[name] / large['jax']:.0%}" for name in (LIMIT, "jax")}
        notes.append(
            f"{size}: {LIMIT} reach {of_peak[LIMIT]} of what one large product reaches in JAX, "
            f"the forward pass {of_peak['jax']}."
        )
    return Table("GFLOP/s, of the best round", tuple(rows), tuple(notes))


def _speeds(name: str, speeds: dict[str, float]) -> Quantity:
    ratios = {column: Ratio(*[speed / speeds["jax"]] * 3) for column, speed in speeds.items()}
    return Quantity(name, "GFLOP/s", speeds, ratios)
