"""`verify --checks=structure` of a decoder of 70 billion weights, of which none is made."""

from benchmarks.verify import SIZES, run
from shared.report.measured import Quantity, Table

CHECKS = ("structure",)
# {column: whether the layers are scanned, in Linen and in NNX}
LAYOUTS = {
    "scan / scan": (True, True),
    "scan / list": (True, False),
    "list / list": (False, False),
}


def measure() -> list[Table]:
    sizes = SIZES["70B"]
    found = {column: run([sizes, *scans, CHECKS]) for column, scans in LAYOUTS.items()}
    for column, answer in found.items():
        assert answer["structure"] == "equal", f"{column}: {answer['structure']}"
    words = ", ".join(f"{name}={size}" for name, size in sizes.items())
    pairs = ", ".join(str(answer["leaves"]) for answer in found.values())
    (params,) = {answer["params"] for answer in found.values()}
    return [
        Table(
            f"verify --checks=structure of a decoder, Linen / NNX ({words})",
            (
                _row("verify", "s", {name: answer["seconds"] for name, answer in found.items()}),
                _row(
                    "peak resident memory of the process",
                    "bytes",
                    {name: answer["peak_mb"] * 2**20 for name, answer in found.items()},
                ),
            ),
            (
                f"{params:,} weights in {pairs} pairs of leaves.",
                "Each in a process of its own, once; the time is without its start and imports.",
            ),
        )
    ]


def _row(name: str, unit: str, values: dict[str, float]) -> Quantity:
    return Quantity(name, unit, values, {})
