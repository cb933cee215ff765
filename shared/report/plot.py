"""A benchmark as a picture. Needs matplotlib, which the extra `plot` brings."""

import importlib.util
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shared.errors import UsageError, printable
from shared.report.measured import Benchmark, Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INSTALL = "pip install 'composed-lifts[plot]'"
COLORS = ("#1f6feb", "#d29922", "#8250df", "#2da44e", "#cf222e", "#6e7781")


def has_matplotlib() -> bool:
    """Whether pictures can be made here."""
    return importlib.util.find_spec("matplotlib") is not None


def check_matplotlib(what: str) -> None:
    """Raises UsageError where `what` cannot be drawn."""
    if not has_matplotlib():
        raise UsageError(f"{what} needs matplotlib, which is not installed: {INSTALL}")


def plot_bench(found: Benchmark, kind: str) -> bytes:
    """The ratios of a benchmark with their tenths, as a file of `kind`: "png" or "svg"."""
    timed = [row for row in found.implementations if row.unit == "s" and len(row.ratios) > 1]
    heights = [len(timed), len(found.forms[0].ratios)]
    figure = new_figure(11, 1.4 + 0.3 * max(heights))
    left, right = figure.subplots(1, 2)
    first, *others = dict.fromkeys(column for row in timed for column in row.ratios)
    _ratios(left, timed, others, [row.name for row in timed])
    left.set_title(f"times as long as {first}", loc="left")
    forms = list(found.forms[0].ratios)
    _ratios(right, [_turned(found.forms, form) for form in forms], list(_names(found)), forms)
    right.set_title(f"times as long as {forms[0]!r}", loc="left")
    figure.suptitle(f"bench {printable(found.name)}: {found.inputs}", x=0.01, ha="left")
    return saved(figure, kind)


def _names(found: Benchmark) -> Sequence[str]:
    return [row.name for row in found.forms]


def _turned(forms: Sequence[Quantity], form: str) -> Quantity:
    """What one form costs: its ratios by what is computed."""
    ratios = {row.name: row.ratios[form] for row in forms}
    return Quantity(form, "s", {}, ratios)


def _ratios(
    axes: "Axes", rows: Sequence[Quantity], columns: Sequence[str], labels: Sequence[str]
) -> None:
    """A dot for each ratio, with a line from its tenth to its ninetieth percentile."""
    for i, column in enumerate(columns):
        has = [(y, row.ratios[column]) for y, row in enumerate(rows) if column in row.ratios]
        places = [y + 0.18 * (i - (len(columns) - 1) / 2) for y, _ in has]
        ratios = [ratio for _, ratio in has]
        middle = [ratio.median for ratio in ratios]
        # The tenths of very few rounds may lie on one side of the median.
        left = [max(0.0, ratio.median - ratio.low) for ratio in ratios]
        right = [max(0.0, ratio.high - ratio.median) for ratio in ratios]
        axes.errorbar(
            middle, places, xerr=(left, right), fmt="o", ms=4, lw=1, color=COLORS[i], label=column
        )
    axes.axvline(1, color="#888", lw=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#8883")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, loc="best")


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def saved(figure: Any, kind: str) -> bytes:
    """A figure as the bytes of a file, the same each time."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    # The picture is the same each time, and its letters stay letters.
    with rc_context({"svg.hashsalt": "composed-lifts", "svg.fonttype": "none"}):
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(stream, format=kind, dpi=120, metadata=metadata)
    return stream.getvalue()
