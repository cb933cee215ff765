"""Time and peak memory of `convert`, beside `cp -r` of the same checkpoint on the same disk.

    python benchmarks/convert.py
    python benchmarks/convert.py --gigabytes=4 --leaf_megabytes=2048 --rounds=5

The checkpoint is the state of a model that is trained with AdamW, as Orbax saves it: params and
their second moments of float32, first moments of bfloat16, all of random numbers, which Orbax
compresses and makes hardly smaller. It is converted there; what was made of it, which is not
compressed, is converted back. `convert` reads, has the SHA-256 of each leaf, writes, brings it to
the disk, reads it back and has the SHA-256 again; `cp` does neither, and `sync` after it is what
brings a copy to the disk. They run in turns; each conversion is a process of its own, whose peak
memory is its own.

What no conversion can leave out is measured too: the processor time that `cp` takes, that of
decompressing, and that of two SHA-256. How long it takes processors that never wait is printed as
the least.

Before each of them a file as large as what is written is made and removed: in a virtual machine,
memory that nobody has used for a while is slow to get, by whoever comes first. The source is then
either in memory, as one that was just written, or on the disk alone, as one that is fetched.
"""

import argparse
import hashlib
import itertools
import json
import os
import resource
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
# As much memory as a copy, and a little more, is made at hand.
WARM = 1.15
# Where the bytes of a source are when it is read.
MEMORY, DISK = "memory", "disk"


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


def convert_once(source, target, state):
    """One conversion, in this process, which begins as `copied` does."""
    from resident import resident_bytes

    from shared.checkpoint.convert import convert

    prepare(source, state)
    resident, spent = resident_bytes("VmRSS"), time.process_time()
    started = time.perf_counter()
    made = convert(source, target)
    return {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - spent,
        "peak_bytes": resident_bytes("VmHWM"),
        "before_bytes": resident,
        "bytes": made.nbytes,
        "largest_bytes": max(leaf.nbytes for leaf in made.leaves.values()),
    }


def least_work(source):
    """Processor seconds of decompressing all leaves of a checkpoint, and of two SHA-256 of each."""
    from shared.checkpoint.formats.table import open_checkpoint

    prepare(source, MEMORY)
    block = bytearray(2**22)
    begun = time.process_time()
    for file in files_of(source):
        with open(file, "rb", buffering=0) as opened:
            while opened.readinto(block):
                pass
    read = time.process_time() - begun
    reader = open_checkpoint(source)
    begun, nbytes = time.process_time(), 0
    for path, leaf in reader.leaves.items():
        if leaf.kind != "empty":
            nbytes += sum(part.nbytes for part in reader.parts(path))
    decompressed = time.process_time() - begun
    begun, digest = time.process_time(), hashlib.sha256()
    for _ in range(2 * nbytes // len(block)):
        digest.update(block)
    return max(0.0, decompressed - read) + time.process_time() - begun


def of_process(*words):
    """What a function of this file prints, from a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def prepare(source, state):
    """Has as much memory at hand as a copy takes, and the source in it, or on the disk alone."""
    block = bytearray(2**20)
    with tempfile.TemporaryFile(dir=os.path.dirname(source), buffering=0) as scratch:
        for _ in range(int(WARM * stored_bytes(source)) // len(block)):
            scratch.write(block)
    for file in files_of(source):
        with open(file, "rb", buffering=0) as opened:
            while opened.readinto(block):
                pass
    os.sync()
    for file in files_of(source) if state == DISK else ():
        with open(file, "rb", buffering=0) as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def files_of(folder):
    """All files below a folder."""
    return [file for file in Path(folder).rglob("*") if file.is_file()]


def stored_bytes(folder):
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in files_of(folder))


def copied(source, target, state):
    """Seconds of `cp -r`, and until what it has written is on the disk; its processor seconds."""
    prepare(source, state)
    spent, started = processor_of_children(), time.perf_counter()
    subprocess.run(["cp", "-r", source, target], check=True)
    written, spent = time.perf_counter(), processor_of_children() - spent
    os.sync()
    synced = time.perf_counter()
    shutil.rmtree(target)
    return written - started, synced - started, spent


def processor_of_children():
    """Processor seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rounds(folder, count):
    """{way, where its source is: of each round, seconds of cp, of cp and sync, processor seconds
    of cp, and what a conversion reports}.

    And {way: bytes that are stored at its source}, {way: processor seconds of `least_work`}.
    """
    found, stored, least = {}, {}, {}
    ways = {"there": ("source", "made"), "back": ("made", "again")}
    for number, state in itertools.product(range(1, count + 1), (MEMORY, DISK)):
        for way, (source, target) in ways.items():
            stored[way] = stored_bytes(folder / source)
            if way not in least:
                least[way] = of_process("--least", folder / source)
            cp, synced, spent = copied(folder / source, folder / "copy", state)
            made = of_process("--one", folder / source, folder / target, state)
            found.setdefault((way, state), []).append((cp, synced, spent, made))
            print(
                f"{way:<6}{state:<7}{number:>3}{cp:>9.2f}{synced:>11.2f}{made['seconds']:>10.2f}"
                f"{synced / made['seconds']:>12.2f}{cp / made['seconds']:>8.2f}"
                f"{made['processor']:>11.2f}{made['peak_bytes'] / 1e6:>9.0f}",
                flush=True,
            )
        for each in ("made", "again"):
            shutil.rmtree(folder / each)
            for file in folder.glob(f"{each}?*"):  # its manifest
                file.unlink()
    return found, stored, least


def report(found, stored, least):
    """The medians of all rounds, and what the memory may be."""
    for (way, state), each in sorted(found.items(), reverse=True):
        print(f"{way} from {state}, {stored[way] / 1e9:.2f} GB stored:")
        for name, which in (("cp and sync", 1), ("cp alone", 0)):
            ratios = [row[which] / row[3]["seconds"] for row in each]
            print(
                f"  throughput of convert, of {name}: {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )
        cp, synced, copying = (statistics.median(row[which] for row in each) for which in range(3))
        seconds, spent = (
            statistics.median(row[3][name] for row in each) for name in ("seconds", "processor")
        )
        count, work = os.cpu_count(), copying + least[way]
        print(
            f"  {each[0][3]['bytes'] / 1e9 / seconds:.2f} GB of numbers a second; {spent:.1f} "
            f"seconds of {count} processors\n"
            f"  what cp takes, {copying:.1f}, and decompressing and two SHA-256, {least[way]:.1f}: "
            f"at least {work / count:.2f} s,\n"
            f"  at most {synced * count / work:.2f} of cp and sync, {cp * count / work:.2f} of cp "
            f"alone"
        )
    rows = [row[3] for each in found.values() for row in each]
    peak, largest = (max(row[name] for row in rows) for name in ("peak_bytes", "largest_bytes"))
    limit = 1.5 * largest + MARGIN_BYTES
    print(
        f"peak memory {peak / 1e6:,.0f} MB, of it {rows[0]['before_bytes'] / 1e6:,.0f} before; may "
        f"be {limit / 1e6:,.0f} with a largest leaf of {largest / 1e6:,.0f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4, help="of numbers in the checkpoint")
    parser.add_argument("--leaf_megabytes", type=float, default=256, help="of the largest leaves")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to write: on the disk that is measured")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--least", help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.one:
        print(json.dumps(convert_once(*words.one)))
        return
    if words.least:
        print(json.dumps(least_work(words.least)))
        return
    if words.make:
        make(words.make[0], *map(int, words.make[1:]))
        print(json.dumps(True))
        return
    with tempfile.TemporaryDirectory(dir=words.folder) as name:
        folder = Path(name)
        sizes = int(words.gigabytes * 1e9), int(words.leaf_megabytes * 2**20)
        of_process("--make", folder / "source", *sizes)
        print(
            f"{'':16}{'cp':>9}{'cp + sync':>11}{'convert':>10}{'of cp+sync':>12}{'of cp':>8}"
            f"{'processor':>11}{'MB':>9}"
        )
        report(*rounds(folder, words.rounds))


if __name__ == "__main__":
    main()
