"""An array as a small picture in text: a line for each feature, a mark for each example."""

from collections.abc import Sequence

import numpy as np

from shared.errors import printable

MAX_FEATURES = 12
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-~=+*#"
_MAX_REPEAT = 4


def sparklines(
    values: np.ndarray,
    names: Sequence[str] | None,
    width: int,
    encoding: str = "utf-8",
    example: str = "example",
) -> list[str]:
    """`values` (B, F) as at most `MAX_FEATURES` lines, F down, B across, lowest to highest mark.

    Examples that do not fit into `width` are drawn as means of neighbours. "?" is not finite.
    `example`: what one of them is called.
    """
    batch_size, features = values.shape
    numbered = [f"feature_{i}" for i in range(min(features, MAX_FEATURES))]
    shown = [printable(name) for name in (names or numbered)[:MAX_FEATURES]]
    label = max((len(name) for name in shown), default=0)
    room = max(8, width - label - 24)
    repeat = min(_MAX_REPEAT, max(1, room // max(batch_size, 1)))
    ramp = _BLOCKS if encoding.lower().startswith("utf") else _ASCII
    lines = []
    for name, column in zip(shown, values.T, strict=False):
        finite = column[np.isfinite(column)]
        extent = f"{finite.min():.3g} .. {finite.max():.3g}" if finite.size else "no finite value"
        marks = _marks(column, room, repeat, ramp)
        lines.append(f"{name:<{label}}  {marks}  {extent}")
    if features > MAX_FEATURES:
        lines.append(f"and {features - MAX_FEATURES} more features")
    if repeat > 1 and batch_size:
        lines.append(f"each {example} is {repeat} marks wide")
    if batch_size > room:
        low, high = batch_size // room, -(-batch_size // room)
        count = low if low == high else f"{low} to {high}"
        lines.append(f"each mark is the mean of {count} {example}s")
    return lines


def _marks(column: np.ndarray, room: int, repeat: int, ramp: str) -> str:
    if column.size == 0:
        return "(no example)"
    parts = np.array_split(column.astype(np.float64), min(room, column.size))
    with np.errstate(invalid="ignore"):  # infinite values of both signs have no mean
        means = np.array([part.mean() for part in parts])
    finite = means[np.isfinite(means)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    span = high - low if high > low else 1.0
    return "".join(
        (ramp[int((mean - low) / span * (len(ramp) - 1) + 0.5)] if np.isfinite(mean) else "?")
        * repeat
        for mean in means
    )
