"""Times of calls that run in turns, as ratios whose noise is measured beside them."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import jax

from shared.report.measured import Ratio

Call = Callable[[], object]

# A repetition of less than this, in seconds, would time the clock.
SHORTEST = 200e-6
# In a call of more than this, in seconds, its beginning is no matter.
LONG = 0.1
# Rounds, at least and at most: each runs every call once, in another order.
FEWEST, MOST = 9, 200


def in_turns(
    calls: Mapping[str, Call], seconds: float, seed: int = 0, fewest: int = FEWEST
) -> dict[str, list[float]]:
    """{name: seconds of a call in each round}. The calls have been compiled.

    Before a call that is timed there are as many that are not, unless it is long: at the first the
    threads are asleep and the caches hold other weights, which is what a turn costs, and what a
    loop of one model does not pay.

    Args:
      calls: each returns arrays, which are waited for.
      seconds: how long it may take in all, if the fewest rounds do not take longer.
      seed: of the order of the calls in a round.
      fewest: rounds, whatever they take.
    """
    once = {name: min(_timed(call, 1) for _ in range(3)) for name, call in calls.items()}
    times = {name: max(1, round(SHORTEST / seconds)) for name, seconds in once.items()}
    names, order = list(calls), random.Random(seed)
    found: dict[str, list[float]] = {name: [] for name in names}
    started = time.perf_counter()
    while len(found[names[0]]) < MOST:
        if len(found[names[0]]) >= fewest and time.perf_counter() - started > seconds:
            break
        order.shuffle(names)
        for name in names:
            if once[name] < LONG:
                _timed(calls[name], times[name])
            found[name].append(_timed(calls[name], times[name]))
    return found


def _timed(call: Call, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - started) / times


def ratio(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """The ratio of two calls that ran in the same rounds."""
    ratios = [a / b for a, b in zip(times, reference, strict=True)]
    tenths = statistics.quantiles([*ratios, *ratios], n=10, method="inclusive")
    return Ratio(statistics.median(ratios), tenths[0], tenths[-1])
