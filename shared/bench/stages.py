"""From a function to what runs: trace, lower, compile, each timed; and what was compiled."""

import dataclasses
import gc
import time
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Stages:
    """One function made ready.

    Attributes:
      trace, lower, compile: seconds.
      argument_bytes, output_bytes, temp_bytes: of what was compiled, as XLA counts them; None where
        the backend does not say.
      flops: the same; the body of a loop counts once, whatever its number of turns.
    """

    trace: float
    lower: float
    compile: float
    argument_bytes: int | None
    output_bytes: int | None
    temp_bytes: int | None
    flops: float | None

    @property
    def seconds(self) -> float:
        """From the function to what runs."""
        return self.trace + self.lower + self.compile

    @property
    def peak_bytes(self) -> int | None:
        """What a call takes beside its arguments."""
        if self.temp_bytes is None or self.output_bytes is None:
            return None
        return self.temp_bytes + self.output_bytes


def stages(function: Callable[..., Any], *args: Any, donated: tuple[int, ...] = ()) -> Stages:
    """`function` made ready for `args`, with nothing kept of an earlier time.

    Args:
      function: of arrays; *args: its arguments.
      donated: which of them it may write over.
    """

    def fresh(*args):
        return function(*args)

    # What the function calls is traced anew, too; garbage is collected here, not within a stage.
    jax.clear_caches()
    gc.collect()
    started = time.perf_counter()
    traced = jax.jit(fresh, donate_argnums=donated).trace(*args)
    at_traced = time.perf_counter()
    lowered = traced.lower()
    at_lowered = time.perf_counter()
    compiled = lowered.compile()
    at_compiled = time.perf_counter()
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return Stages(
        at_traced - started,
        at_lowered - at_traced,
        at_compiled - at_lowered,
        getattr(memory, "argument_size_in_bytes", None),
        getattr(memory, "output_size_in_bytes", None),
        getattr(memory, "temp_size_in_bytes", None),
        dict(cost or {}).get("flops"),
    )
