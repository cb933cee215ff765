"""What asks a command to end, passed on to the process that works for it."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

from shared.checkpoint.publishing.signals import (
    SAME_REQUEST_SECONDS,
    SIGNALS,
    heard,
    listen_for,
)

# By numbers that nobody else sends: a terminal or a scheduler asks all of a group, and what is
# asked by its parent as well would take that for the second time, which ends it.
if sys.platform == "linux":
    _PASSED_ON_AS = {signal.SIGINT: signal.SIGRTMIN + 5, signal.SIGTERM: signal.SIGRTMIN + 6}
else:
    _PASSED_ON_AS = {signal.SIGINT: int(signal.SIGUSR1), signal.SIGTERM: int(signal.SIGUSR2)}


@contextlib.contextmanager
def blocked() -> Iterator[set[int | signal.Signals]]:
    """What asks to end waits while a process is forked; yields the signals that were blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, *_PASSED_ON_AS.values()})
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen() -> None:
    """In the child: it is asked by its parent alone."""
    for asked, number in _PASSED_ON_AS.items():
        if signal.getsignal(asked) != signal.SIG_IGN:
            # Not ignored, which what it starts would be as well.
            signal.signal(asked, lambda number, frame: None)
        signal.signal(number, signal.SIG_DFL)
    listen_for(_PASSED_ON_AS)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*SIGNALS, *_PASSED_ON_AS.values()})


def asked_by(number: int) -> int:
    """What a parent was asked by, whose child was ended by a signal of this number."""
    return next((asked for asked, each in _PASSED_ON_AS.items() if each == number), number)


@contextlib.contextmanager
def passing_on(child: int) -> Iterator[list[int]]:
    """What asks this process to end is passed on to `child`; asked once more, it is killed.

    Yields:
      The number of the signal for which it was killed, if it was.
    """
    since: float | None = None
    killed_for: list[int] = []

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(child, number)

    def asked(number: int, _: FrameType | None) -> None:
        nonlocal since
        if since is None:
            since = time.monotonic()
            send(_PASSED_ON_AS[signal.Signals(number)])
        elif time.monotonic() - since > SAME_REQUEST_SECONDS:
            killed_for.append(number)
            send(signal.SIGKILL)

    with heard(SIGNALS, asked):
        yield killed_for
