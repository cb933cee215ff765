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


def measure() -> list[Table]:
    """The script of plain JAX, and the command of each implementation."""
    row = timed_row("to the first result", first_results(_COMMANDS, TIMES))
    return [Table("From the start of a process to the first result", (row,))]
