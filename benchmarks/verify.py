"""Time and peak memory of `verify`, how they grow with the number of layers, and what they were.

    python benchmarks/verify.py
    python benchmarks/verify.py --against=COMMIT

Each row runs in a process of its own, so that its peak memory is its own. Times are those of one
machine; what carries over is the growth, and with `--against` the ratio to another commit, whose
rows run in turns with these.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIZES = {
    "7B": {"num_layers": 32, "dim": 4096, "hidden": 11008, "heads": 32, "vocab": 32000},
    "70B": {"num_layers": 80, "dim": 8192, "hidden": 28672, "heads": 64, "vocab": 32000},
}
SMALL = {"dim": 32, "hidden": 64, "heads": 2, "vocab": 64}
ABSTRACT, ALL = ("structure", "programs"), None
REPETITIONS = 3


def measure(sizes, linen_scan, nnx_scan, checks):
    """One run, in this process."""
    import numpy as np
    from decoder import decoder_pair
    from resident import resident_bytes

    from shared import verify

    started = time.perf_counter()
    pair = decoder_pair(**sizes, linen_scan=linen_scan, nnx_scan=nnx_scan)
    found = verify(pair, checks=checks) if checks else verify(pair)
    return {
        "seconds": time.perf_counter() - started,
        "peak_mb": resident_bytes("VmHWM") / 2**20,
        "params": int(sum(np.prod(row["nnx_shape"]) for row in found.rows)),
        "leaves": len(found.rows),
        "verdict": found.verdict,
        "structure": found.checks[0].status,
    }


def run(work, code=HERE.parent):
    """What `measure` returns, from a process of its own that runs the checkout `code`."""
    words = [sys.executable, __file__, "--one", json.dumps(work)]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def row(name, sizes, linen_scan, nnx_scan, checks):
    """Prints one row of the table and returns its seconds."""
    found = run([sizes, linen_scan, nnx_scan, checks])
    layout = f"{'scan' if linen_scan else 'loop'}/{'scan' if nnx_scan else 'list'}"
    print(
        f"{name:<22}{layout:<11}{sizes['num_layers']:>6}{found['params']:>16,}"
        f"{found['leaves']:>7}{found['seconds']:>9.1f}{found['peak_mb']:>9.0f}  "
        f"{found['structure']}, {found['verdict']}",
        flush=True,
    )
    return found["seconds"]


def table():
    print(f"{'':22}{'layout':<11}{'layers':>6}{'params':>16}{'pairs':>7}{'seconds':>9}{'MB':>9}")
    for name, sizes in SIZES.items():
        row(f"structure, {name}", sizes, True, True, ABSTRACT)
        row(f"structure, {name}", sizes, True, False, ABSTRACT)
        row(f"structure, {name}", sizes, False, False, ABSTRACT)
    for layers in (2, 12):
        row("all checks", {"num_layers": layers, **SMALL}, False, False, ALL)
    for scan in (True, False):
        times = [
            row("structure, growth", {"num_layers": n, **SMALL}, scan, scan, ABSTRACT)
            for n in (20, 80)
        ]
        exponent = math.log(times[1] / times[0]) / math.log(4)
        print(f"  {'scan' if scan else 'loop'}: time grows as layers ** {exponent:.2f}")


@contextlib.contextmanager
def checkout(commit):
    """A folder with the project as it was at `commit`."""
    with tempfile.TemporaryDirectory() as folder:
        git = ["git", "-C", str(HERE.parent)]
        subprocess.run([*git, "worktree", "add", "-q", "--detach", folder, commit], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", folder], check=True)


def compare(commit):
    """All checks here and at `commit`, in turns."""
    print(
        f"{'':22}{'layers':>6}{'here':>9}{commit[:8]:>10}{'ratio':>8}   (medians of {REPETITIONS})"
    )
    with checkout(commit) as before:
        for layers in (2, 12):
            work = [{"num_layers": layers, **SMALL}, False, False, ALL]
            times = [
                (run(work)["seconds"], run(work, before)["seconds"]) for _ in range(REPETITIONS)
            ]
            here, there = (statistics.median(each) for each in zip(*times, strict=True))
            print(f"{'all checks':<22}{layers:>6}{here:>9.1f}{there:>10.1f}{here / there:>8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="COMMIT", help="compare with another commit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.one:
        print(json.dumps(measure(*json.loads(words.one))))
    elif words.against:
        compare(words.against)
    else:
        table()


if __name__ == "__main__":
    main()
