"""What it takes to make the weights: memory, and time again and for the first time."""

import argparse
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import linen_impl.composed
import linen_impl.rngs
import nnx_impl.composed
import nnx_impl.rngs
from benchmarks.resident import resident_bytes
from nnx_impl.block import Block
from shared.bench.rows import stage_rows, timed_row
from shared.bench.stages import Stages, stages
from shared.bench.timing import in_turns
from shared.report.measured import Quantity, Ratio, Table

ROOT = Path(__file__).parents[2]
# (num_layers, features): of the memory, and what is made before, for JAX to be warm.
LARGE, SMALL = (64, 1024), (2, 8)
# (num_layers, features) and the batch: of the times.
EXERCISE, BATCH_SIZE = (12, 256), 32
SECONDS, TIMES = 15.0, 7
# Processes for each way; the median of their peaks is taken.
PROCESSES = 3


def measure() -> list[Table]:
    return [peaks(), *times()]


def linen_jit(num_layers: int, features: int) -> Any:
    model, rngs = linen_impl.composed.Shared(num_layers, features), linen_impl.rngs.linen_rngs(0)
    return linen_impl.composed.init(model, rngs, _batch(features))


def linen_eager(num_layers: int, features: int) -> Any:
    model, rngs = linen_impl.composed.Shared(num_layers, features), linen_impl.rngs.linen_rngs(0)
    return model.init(rngs, _batch(features), None)


def nnx_jit(num_layers: int, features: int) -> Any:
    return nnx_impl.composed.init(num_layers, features, _nnx_rngs())[1]


def nnx_eager(num_layers: int, features: int) -> Any:
    return nnx.state(nnx_impl.composed.Shared(num_layers, features, rngs=_nnx_rngs()))


def nnx_vmap_jit(num_layers: int, features: int) -> Any:
    """The constructor of a layer under `nnx.vmap`, which draws all layers at once."""

    @nnx.jit
    def make(rngs):
        return nnx.vmap(lambda rngs: Block(features, rngs=rngs))(rngs.split(num_layers))

    return nnx.state(make(nnx.Rngs(0)))


def jax_vmap_jit(num_layers: int, features: int) -> Any:
    init = jax.nn.initializers.lecun_normal()

    def make(key):
        return jnp.zeros(features), init(key, (features, features))

    return jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(0), num_layers))


WAYS: dict[str, Callable[[int, int], Any]] = {
    "linen, init in jit": linen_jit,
    "linen, init": linen_eager,
    "nnx, init in jit": nnx_jit,
    "nnx, init": nnx_eager,
    "nnx, nnx.vmap in nnx.jit": nnx_vmap_jit,
    "jax, vmap in jit": jax_vmap_jit,
}


def peaks() -> Table:
    found = {way: sorted(_in_a_process(way) for _ in range(PROCESSES)) for way in WAYS}
    medians = {way: all_[PROCESSES // 2] for way, all_ in found.items()}
    first = next(iter(medians.values()))
    num_layers, features = LARGE
    return Table(
        f"Peak memory of making the weights, num_layers={num_layers}, features={features}",
        (
            Quantity(
                "peak, over the bytes of the weights",
                "params",
                medians,
                {way: Ratio(*[peak / first] * 3) for way, peak in medians.items()},
            ),
        ),
        (
            "Resident memory of a process of its own (VmHWM of /proc/self/status), less what it "
            "was (VmRSS) after the same was done with num_layers={}, features={}: what XLA "
            "compiles is in it, what is loaded is not.".format(*SMALL),
            f"Medians of {PROCESSES} processes.",
        ),
    )


def _in_a_process(way: str) -> float:
    words = [sys.executable, "-m", "benchmarks.performance.memory", way]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def peak_over_weights(way: str) -> float:
    """Peak memory of this process, beyond what it had, over the bytes of the weights it makes."""
    make = WAYS[way]
    jax.block_until_ready(jax.tree.leaves(make(*SMALL)))
    before = resident_bytes("VmRSS")
    leaves = jax.block_until_ready(jax.tree.leaves(make(*LARGE)))
    return (resident_bytes("VmHWM") - before) / sum(leaf.nbytes for leaf in leaves)


def times() -> list[Table]:
    num_layers, features = EXERCISE
    sizes = f"batch_size={BATCH_SIZE}, num_layers={num_layers}, features={features}"
    again = {
        "linen, init": linen_eager,
        "linen, init in jit": linen_jit,
        "nnx, init in jit": nnx_jit,
    }
    calls = {way: functools.partial(_leaves, make, *EXERCISE) for way, make in again.items()}
    for call in calls.values():
        jax.block_until_ready(call())
    timed = in_turns(calls, SECONDS)
    found = first_times()
    seconds = {name: [each.seconds for each in all_] for name, all_ in found.items()}
    return [
        Table(f"Making the weights again, {sizes}", (timed_row("init, again", timed),)),
        Table(
            f"Making the weights for the first time, in jit, {sizes}",
            (timed_row("init: trace, lower, compile", seconds), *stage_rows("init", found)),
            (
                f"Medians of {TIMES} in turns; JAX's caches are cleared before each.",
                "NNX draws the weights from Linen's streams, as `composed.init` does.",
            ),
        ),
    ]


def _leaves(make: Callable[[int, int], Any], num_layers: int, features: int) -> list[jax.Array]:
    return jax.tree.leaves(make(num_layers, features))


def first_times() -> dict[str, list[Stages]]:
    """{implementation: the stages of its init in `jit`}, of both twins."""
    num_layers, features = EXERCISE
    model, x = linen_impl.composed.Shared(num_layers, features), _batch(features)
    functions = {
        "linen": (lambda rngs: model.init(rngs, x, None), linen_impl.rngs.linen_rngs(0)),
        "nnx": (
            lambda rngs: nnx.split(nnx_impl.composed.Shared(num_layers, features, rngs=rngs))[1],
            _nnx_rngs(),
        ),
    }
    found: dict[str, list[Stages]] = {name: [] for name in functions}
    for _ in range(TIMES):
        for name, words in functions.items():
            found[name].append(stages(*words))
    return found


def _batch(features: int) -> jax.Array:
    return jnp.ones((BATCH_SIZE, features))


def _nnx_rngs() -> nnx.Rngs:
    return nnx_impl.rngs.linen_rngs(0, draws=("Dense_0", "Dense_0"), num_scans=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints the peak of one way to make the weights.")
    parser.add_argument("way", choices=WAYS)
    print(json.dumps(peak_over_weights(parser.parse_args().way)))


if __name__ == "__main__":
    main()
