"""From the start of a process to the first result."""

from benchmarks.performance import pure_script
from shared.bench.first_result import first_results
from shared.bench.rows import timed_row
from shared.report.measured import Table

TIMES = 9
_SIZES = (
    f"--num_layers={pure_script.NUM_LAYERS}",
    f"--features={pure_script.FEATURES}",
    f"--batch_size={pure_script.BATCH_SIZE}",
)
_COMMANDS = {
    "jax": ["-m", "benchmarks.performance.pure_script"],
    "linen": ["-m", "shared", "forward", "--impl=linen", *_SIZES],
    "nnx": ["-m", "shared", "forward", "--impl=nnx", *_SIZES],
}


_IMPORTS = {
    "jax": ["-c", "import jax"],
    "linen": ["-c", "import flax.linen"],
    "nnx": ["-c", "import flax.nnx"],
}


def measure() -> list[Table]:
    """The script of plain JAX and the command of each implementation; and what importing takes."""
    of_all = {"to the first result": _COMMANDS, "to the end of the import": _IMPORTS}
    rows = [timed_row(name, first_results(commands, TIMES)) for name, commands in of_all.items()]
    return [
        Table(
            "From the start of a process",
            tuple(rows),
            (
                "jax is a script of a screen, `benchmarks/performance/pure_script.py`; linen and "
                "nnx are `composed-lifts forward`, which reads flags and prints a report as well.",
                "The import is that of `jax`, of `flax.linen`, of `flax.nnx`, and of nothing else.",
            ),
        )
    ]
