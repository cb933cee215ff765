"""What asks a command to end, passed on to the process that works for it."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

from shared.checkpoint.publishing.signals import SAME_REQUEST_SECONDS, SIGNALS

# By another number, while the child blocks the first: a terminal or a scheduler asks all of a
# group, and what is asked by its parent as well takes that for the second time, which ends it.
_PASSED_ON_AS = {signal.SIGINT: signal.SIGUSR1, signal.SIGTERM: signal.SIGUSR2}


@contextlib.contextmanager
def blocked() -> Iterator[set[int | signal.Signals]]:
    """What asks to end waits while a process is forked; yields the signals that were blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, *_PASSED_ON_AS.values()})
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen() -> None:
    """In the child: what is passed on does what the signal itself would do."""

    def passed_on(number: int, frame: FrameType | None) -> None:
        (asked,) = (each for each in _PASSED_ON_AS if _PASSED_ON_AS[each] == number)
        handler = signal.getsignal(asked)
        if callable(handler):
            handler(asked, frame)
        else:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [asked])
            signal.raise_signal(asked)

    # An exception while C++ is imported, or calls back, is lost there, or ends in a crash.
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in _PASSED_ON_AS.values():
        signal.signal(number, passed_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON_AS.values())


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

    before = {each: signal.getsignal(each) for each in SIGNALS}
    # What is ignored, as under nohup, stays so.
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}
    for each in before:
        signal.signal(each, asked)
    try:
        yield killed_for
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
