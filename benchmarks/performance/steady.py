"""Times of calls as of a loop of one model, though all run in turns."""

import random
import time
from collections.abc import Mapping

import jax

from shared.bench.timing import SHORTEST, Call

# In a call of more than this, in seconds, its beginning is no matter.
LONG = 0.1


def in_steady_state(
    calls: Mapping[str, Call], seconds: float, fewest: int, seed: int = 0
) -> dict[str, list[float]]:
    """{name: seconds of a call in each round}, each but a long one after as many, untimed.

    `shared.bench.timing.in_turns` times the first call of a turn. There the threads of PyTorch or
    of NumPy's BLAS are asleep, those of another are not yet, and the caches hold other weights:
    what a turn costs, which a loop of one model does not pay.

    Args:
      calls: each returns arrays, which are waited for. They have been compiled.
      seconds: how long it may take in all, if the fewest rounds do not take longer.
      fewest: rounds, whatever they take.
      seed: of the order of the calls in a round.
    """
    once = {name: min(_timed(call, 1) for _ in range(2)) for name, call in calls.items()}
    times = {name: max(1, round(SHORTEST / seconds)) for name, seconds in once.items()}
    names, order = list(calls), random.Random(seed)
    found: dict[str, list[float]] = {name: [] for name in names}
    started, rounds = time.perf_counter(), 0
    while rounds < fewest or time.perf_counter() - started < seconds:
        order.shuffle(names)
        for name in names:
            if once[name] < LONG:
                _timed(calls[name], times[name])
            found[name].append(_timed(calls[name], times[name]))
        rounds += 1
    return found


def _timed(call: Call, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - started) / times
