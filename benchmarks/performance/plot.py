"""The picture of `docs/performance.md`: a step by its size, and how long making one ready takes."""

from collections.abc import Mapping, Sequence

from shared.report.measured import Quantity, Table
from shared.report.plot import COLORS, new_figure, saved

# What is drawn of a step, beside plain JAX, which is 1.
STEPS = ("linen", "nnx", "nnx layer list", "equinox filter_jit", "torch eager", "plain products")


def plot(tables: Mapping[str, Sequence[Table]]) -> bytes:
    """An SVG."""
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    rows = tables["steps"][0].rows
    names = [name for name in STEPS if name in rows[0].ratios]
    for i, name in enumerate(names):
        ratios = [row.ratios[name].median for row in rows]
        color = COLORS[i % len(COLORS)]
        left.plot(range(len(rows)), ratios, "o-", ms=4, lw=1, color=color, label=name)
    left.axhline(1, color="#888", lw=1)
    left.set_xticks(range(len(rows)), [row.name.removeprefix("forward ") for row in rows])
    left.set_title("forward, times as long as plain JAX", loc="left")
    left.set_xlabel("(examples, layers, features)")

    scanned, in_a_loop = tables["growth"][:2]
    for table, style, words in ((scanned, "-", "scanned"), (in_a_loop, "--", "in a loop")):
        for i, name in enumerate(("linen", "nnx")):
            points = _whole(table.rows, name)
            sizes = sorted(points)
            right.plot(
                sizes,
                [points[size] for size in sizes],
                f"o{style}",
                ms=4,
                lw=1,
                color=COLORS[i],
                label=f"{name}, {words}",
            )
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.xaxis.set_major_formatter("{x:g}")
    right.yaxis.set_major_formatter("{x:g}")
    right.set_title("value and gradient made ready, seconds", loc="left")
    right.set_xlabel("layers")
    for axes in (left, right):
        axes.grid(axis="y", color="#8883")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return saved(figure, "svg")


def _whole(rows: Sequence[Quantity], column: str) -> dict[int, float]:
    """{size: seconds of trace, lower and compile together}."""
    found: dict[int, float] = {}
    for row in rows:
        what, _, size = row.name.rpartition(", ")
        if what in {f"value and gradient: {stage}" for stage in ("trace", "lower", "compile")}:
            found[int(size)] = found.get(int(size), 0.0) + row.values[column]
    return found
