"""How often XLA compiles: a count, where a time would only hint at it."""

from collections.abc import Callable

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


def count_compilations(call: Callable[[], object]) -> int:
    """How many programs XLA compiles in one `call`, whose arrays are waited for."""
    compiled = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _EVENT:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(call())
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(compiled)
