"""A whole step of training, optimizer and dropout included, in each API's own idiom."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shared.bench import pure_training
from shared.bench.compilations import count_compilations
from shared.bench.rows import made_ready, size_rows, timed_row
from shared.bench.timing import in_turns
from shared.cases import Case
from shared.interface import IMPLEMENTATIONS
from shared.report.measured import Quantity
from shared.training.trainer import load_trainer

TITLE = "train step"
# The case whose params `composed-lifts train` trains.
TRAINED = "transformer"
AGAIN = "jax again"
COLUMNS = (*IMPLEMENTATIONS, "jax")


def train_step_rows(
    case: Case,
    optimizer: optax.GradientTransformation,
    seconds: float,
    times: int,
    columns: tuple[str, ...] = COLUMNS,
) -> Iterator[Quantity]:
    """The step of `linen_impl.training`, of `nnx_impl.training` and of plain JAX.

    Args:
      case: of the transformer in training, with its sizes.
      optimizer: that all three train with.
      seconds: of what is timed in turns.
      times: how often each program is made ready.
      columns: of the table; `AGAIN` is plain JAX once more, which shows how far two equal programs
        are apart.
    """
    trainers = {name: load_trainer(name) for name in IMPLEMENTATIONS}
    inits: dict[str, Callable[[], Any]] = {
        name: jax.jit(functools.partial(trainer.init, case, optimizer, 0))
        for name, trainer in trainers.items()
    }
    steps: dict[str, Any] = {name: trainer.train_step for name, trainer in trainers.items()}

    def init_plain() -> pure_training.State:
        state = inits["linen"]()
        return pure_training.init(trainers["linen"].params_of(state), optimizer, state.key)

    for name in ("jax", AGAIN):
        inits[name], steps[name] = init_plain, pure_training.jitted(case, optimizer)

    windows = jnp.asarray(_windows(case))
    functions = {
        name: (steps[name].__wrapped__, inits[name](), windows) for name in columns if name != AGAIN
    }
    yield from size_rows(TITLE, made_ready(functions, times, donated=(0,)))
    calls = {name: _stepping(steps[name], inits[name](), windows) for name in columns}
    counts = {name: count_compilations(calls[name]) for name in functions}
    yield Quantity(f"{TITLE}: compiled again", "programs", counts, {})
    yield timed_row(TITLE, in_turns(calls, seconds))


def _stepping(step: Callable[..., Any], state: Any, windows: jax.Array) -> Callable[[], Any]:
    """A call that makes the next state of the one that the last call made."""
    kept = [state]

    def call() -> jax.Array:
        kept[0], loss = step(kept[0], windows)
        return loss

    jax.block_until_ready(call())
    return call


def _windows(case: Case) -> np.ndarray:
    shape = case.batch_size, case.axis_sizes["length"] + 1
    return np.random.default_rng(0).integers(case.axis_sizes["vocab"], size=shape, dtype=np.int32)
