"""From tables to what to do: a sentence each."""

from collections.abc import Iterator, Sequence

from shared.bench.rows import COMPILED_EAGERLY
from shared.report.measured import Quantity, Ratio

# A machine on which two equal programs are further apart is too noisy to tell forms apart.
NOISY = 0.25
# Bytes of one program beyond those of the other that are worth a word: this part of the weights.
PART, FEWEST_BYTES = 0.05, 2**12
# Operations of one program beyond those of the other: this part of them.
WORK = 0.1


def advice(
    rows: Sequence[Quantity],
    forms: Sequence[Quantity],
    num_leaves: int,
    params_bytes: int,
    noise: Ratio,
) -> Iterator[str]:
    """What the programs of NNX do that those of Linen do not; which form to use; what is noise.

    Args:
      rows: of the implementations; forms: of the forms, of which the first is recommended.
      num_leaves: of the module; params_bytes: of its weights.
      noise: of two equal programs.
    """
    by_name = {row.name: row for row in rows}
    for kind in ("forward", "value and gradient"):
        if f"{kind}: argument bytes" in by_name:
            yield from _apart(kind, by_name, params_bytes)
        yield from _slower(kind, by_name, noise)
    eager = by_name.get(COMPILED_EAGERLY)
    if eager and (count := eager.values["nnx"]):
        yield (
            f"a call of NNX that is not jitted compiles {count:.0f} program(s) each time, for a "
            f"lift is made within it: make it once, as a decorator of a method, or jit the call"
        )
    by_name = {row.name: row for row in forms}
    forward, host = by_name["forward"], by_name["dispatch alone"]
    best, usual = next(iter(forward.values)), "nnx.jit"
    if usual in forward.values:
        yield (
            f"use {best!r}: with {usual!r} a forward pass takes "
            f"{forward.ratios[usual].median:.2f} times as long, and a call that computes nothing "
            f"{host.values[usual] * 1e6:.0f} us for {num_leaves} leaves, in place of "
            f"{host.values[best] * 1e6:.0f}"
        )
    if noise.spread > NOISY:
        yield (
            f"two equal programs were {noise.low:.2f} to {noise.high:.2f} apart: this machine is "
            f"too noisy now for differences below {noise.spread:.0%}"
        )


def _apart(kind: str, rows: dict[str, Quantity], params_bytes: int) -> Iterator[str]:
    """What the bytes of two programs say that no time says for certain."""
    lost = ", a remat that Linen has, say" if kind != "forward" else ""
    for what, more, less in (
        ("argument", "takes {} more than Linen", "has {} of weights as constants, or without use"),
        ("output", "returns {} more than Linen: state that goes through each call", ""),
        ("temp", f"needs {{}} more than Linen on the way{lost}", ""),
    ):
        found = rows.get(f"{kind}: {what} bytes")
        if found is None or not {"linen", "nnx"} <= found.values.keys():
            continue
        apart = found.values["nnx"] - found.values["linen"]
        said = more if apart > 0 else less
        if said and abs(apart) > max(PART * params_bytes, FEWEST_BYTES):
            yield f"{kind}: the program of NNX {said.format(f'{abs(apart) / 2**10:,.0f} KiB')}"
    operations = rows.get(f"{kind}: operations")
    if operations and "nnx" in operations.ratios:
        times = operations.ratios["nnx"].median
        if abs(times - 1) > WORK:
            yield (
                f"{kind}: the program of NNX has {times:.2f} times the operations of Linen's, the "
                f"body of a loop counted once: other work is done, or only one of both has a loop"
            )


def _slower(kind: str, rows: dict[str, Quantity], noise: Ratio) -> Iterator[str]:
    """That NNX takes longer than two equal programs differ."""
    ratio = rows[kind].ratios.get("nnx") if kind in rows else None
    if ratio and ratio.low > max(noise.high, 1 + PART):
        yield (
            f"{kind}: NNX takes {ratio.median:.2f} times as long as Linen ({ratio.low:.2f} to "
            f"{ratio.high:.2f}), two equal programs {noise.low:.2f} to {noise.high:.2f}"
        )
