"""Time and peak memory of `verify`, and how they grow with the number of layers.

    python benchmarks/verify.py

Each row runs in a process of its own, so that its peak memory is its own. Times are those of one
machine; what carries over is the growth.
"""

import json
import math
import resource
import subprocess
import sys
import time

SIZES = {
    "7B": {"num_layers": 32, "dim": 4096, "hidden": 11008, "heads": 32, "vocab": 32000},
    "70B": {"num_layers": 80, "dim": 8192, "hidden": 28672, "heads": 64, "vocab": 32000},
}
SMALL = {"dim": 32, "hidden": 64, "heads": 2, "vocab": 64}
ABSTRACT, ALL = ("structure", "programs"), None


def measure(sizes, linen_scan, nnx_scan, checks):
    """One run, in this process."""
    import numpy as np
    from decoder import decoder_pair
    from shared.verification.comparison import ALL_CHECKS

    from shared.verification.pipeline import verify

    started = time.perf_counter()
    pair = decoder_pair(**sizes, linen_scan=linen_scan, nnx_scan=nnx_scan)
    found = verify(pair, checks=checks or ALL_CHECKS)
    return {
        "seconds": time.perf_counter() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "params": int(sum(np.prod(row["nnx_shape"]) for row in found.rows)),
        "leaves": len(found.rows),
        "verdict": found.verdict,
        "structure": found.checks[0].status,
    }


def run(name, sizes, linen_scan, nnx_scan, checks):
    """One row of the table, from a process of its own."""
    words = [sys.executable, __file__, json.dumps([sizes, linen_scan, nnx_scan, checks])]
    row = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    layout = f"{'scan' if linen_scan else 'loop'}/{'scan' if nnx_scan else 'list'}"
    print(
        f"{name:<22}{layout:<11}{sizes['num_layers']:>6}{row['params']:>16,}{row['leaves']:>7}"
        f"{row['seconds']:>9.1f}{row['peak_mb']:>9.0f}  {row['structure']}, {row['verdict']}"
    )
    return row["seconds"]


def main():
    print(f"{'':22}{'layout':<11}{'layers':>6}{'params':>16}{'pairs':>7}{'seconds':>9}{'MB':>9}")
    for name, sizes in SIZES.items():
        run(f"structure, {name}", sizes, True, True, ABSTRACT)
        run(f"structure, {name}", sizes, True, False, ABSTRACT)
        run(f"structure, {name}", sizes, False, False, ABSTRACT)
    run("all checks", {"num_layers": 12, **SMALL}, False, False, ALL)
    for scan in (True, False):
        times = [
            run("structure, growth", {"num_layers": n, **SMALL}, scan, scan, ABSTRACT)
            for n in (20, 80)
        ]
        exponent = math.log(times[1] / times[0]) / math.log(4)
        print(f"  {'scan' if scan else 'loop'}: time grows as layers ** {exponent:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        main()
