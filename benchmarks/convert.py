"""Time and peak memory of `convert`, beside `cp -r` of the same checkpoint on the same disk.

    python benchmarks/convert.py
    python benchmarks/convert.py --gigabytes=4 --leaf_megabytes=2048 --rounds=5

The checkpoint is the state of a model that is trained with AdamW, as Orbax saves it: params and
their second moments of float32, first moments of bfloat16, all of random numbers, which hardly
compress. `convert` reads it, has the SHA-256 of each leaf, writes the other API's, brings it to the
disk, reads it back and has the SHA-256 again; `cp` does neither, and `sync` after it is what
brings a copy to the disk. They run in turns; each conversion is a process of its own, whose peak
memory is its own.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Of 1.5 times the largest leaf, and of this, a conversion may take memory.
MARGIN_BYTES = 400e6
FEATURES = 4096


def make(folder, nbytes, leaf_bytes):
    """Saves a checkpoint of about `nbytes`, its largest leaves of `leaf_bytes`."""
    import jax.numpy as jnp
    import ml_dtypes
    import numpy as np
    import optax
    import orbax.checkpoint as ocp

    # Of a leaf of float32 there is one as large in `nu`, and one half as large in `mu`.
    layers = max(1, round(nbytes / (2.5 * leaf_bytes)))
    rows = max(1, leaf_bytes // (4 * FEATURES))
    draws = np.random.default_rng(0)

    def tree(dtype):
        draw = lambda: draws.standard_normal((rows, FEATURES), np.float32).astype(dtype)  # noqa: E731
        return {f"Dense_{i}": {"kernel": jnp.asarray(draw())} for i in range(layers)}

    count = jnp.zeros((), jnp.int32)
    moments = optax.ScaleByAdamState(count, tree(ml_dtypes.bfloat16), tree(np.float32))
    state = {
        "step": count,
        "params": tree(np.float32),
        "opt_state": (moments, optax.EmptyState(), optax.EmptyState()),
    }
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(folder, args=ocp.args.StandardSave(state))


def convert_once(source, target, before):
    """One conversion, in this process, which begins as `copied` does."""
    from resident import resident_bytes

    from shared.checkpoint.convert import convert

    remove(before)
    resident = resident_bytes("VmRSS")
    started = time.perf_counter()
    made = convert(source, target)
    return {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time(),
        "peak_bytes": resident_bytes("VmHWM"),
        "before_bytes": resident,
        "bytes": made.nbytes,
        "largest_bytes": max(leaf.nbytes for leaf in made.leaves.values()),
    }


def of_process(*words):
    """What a function of this file prints, from a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def remove(folder):
    """Removes a copy: what runs next finds as much memory free as was used by it.

    In a virtual machine, memory that has been free for seconds is taken back, and is slow to get.
    """
    shutil.rmtree(folder)
    os.sync()


def copied(source, target, before):
    """Seconds of `cp -r`, and until what it has written is on the disk."""
    remove(before)
    started = time.perf_counter()
    subprocess.run(["cp", "-r", source, target], check=True)
    written = time.perf_counter()
    os.sync()
    return written - started, time.perf_counter() - started


def rounds(source, folder, count):
    """Of each round: seconds of cp, of cp and sync, and what a conversion reports."""
    found = []
    copy, target = folder / "copy", folder / "target"
    shutil.copytree(source, target)
    for number in range(count + 1):
        cp, synced = copied(source, copy, target)
        made = of_process("--one", source, target, copy)
        # The first round has all caches as they were.
        if number:
            found.append((cp, synced, made))
            print(
                f"{number:>5}{cp:>9.2f}{synced:>11.2f}{made['seconds']:>10.2f}"
                f"{synced / made['seconds']:>11.2f}{cp / made['seconds']:>8.2f}"
                f"{made['processor']:>11.2f}{made['peak_bytes'] / 1e6:>9.0f}",
                flush=True,
            )
    return found


def report(stored, found):
    """The medians of all rounds, and what the memory may be."""
    made = found[0][2]
    peak = max(each["peak_bytes"] for _, _, each in found)
    limit = 1.5 * made["largest_bytes"] + MARGIN_BYTES
    for name, which in (("cp and sync", 1), ("cp alone", 0)):
        ratios = [each[which] / each[2]["seconds"] for each in found]
        print(
            f"throughput of convert, of {name}: {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    seconds = statistics.median(each["seconds"] for _, _, each in found)
    print(
        f"{made['bytes'] / 1e9 / seconds:.2f} GB of numbers a second, {stored / 1e9:.2f} GB stored"
    )
    print(
        f"peak memory {peak / 1e6:,.0f} MB, of it {made['before_bytes'] / 1e6:,.0f} before; may be "
        f"{limit / 1e6:,.0f} with a largest leaf of {made['largest_bytes'] / 1e6:,.0f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4, help="of numbers in the checkpoint")
    parser.add_argument("--leaf_megabytes", type=float, default=256, help="of the largest leaves")
    parser.add_argument("--rounds", type=int, default=5, help="beside one that is not counted")
    parser.add_argument("--folder", help="where to write: on the disk that is measured")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.one:
        print(json.dumps(convert_once(*words.one)))
        return
    if words.make:
        make(words.make[0], *map(int, words.make[1:]))
        print(json.dumps(True))
        return
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        source = Path(folder) / "source"
        of_process("--make", source, int(words.gigabytes * 1e9), int(words.leaf_megabytes * 2**20))
        stored = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
        print(
            f"{'':5}{'cp':>9}{'cp + sync':>11}{'convert':>10}{'of cp+sync':>11}{'of cp':>8}"
            f"{'processor':>11}{'MB':>9}"
        )
        report(stored, rounds(source, Path(folder), words.rounds))


if __name__ == "__main__":
    main()
