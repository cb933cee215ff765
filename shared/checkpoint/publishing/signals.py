"""Ctrl-C and SIGTERM while a checkpoint is written: what was begun is taken back, or ended."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType

from shared.errors import InterruptedRunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# GNU `timeout` sends a signal to a process and at once to its group: that is asked once.
SAME_REQUEST_SECONDS = 0.1


class _InterruptedError(BaseException):
    """Raised wherever the program is: no library may take it for an error of its own."""


class Signals:
    """Whether a signal is to wait, and the number of the one that came."""

    is_held = False
    number: int | None = None

    def hold(self) -> None:
        """Has signals wait, if none came: code that is called back may have swallowed it."""
        self.is_held = True
        if self.number is not None:
            raise _InterruptedError


# By which number each comes to this process.
_comes_as: dict[signal.Signals, int] = {each: each for each in SIGNALS}


def listen_for(numbers: Mapping[signal.Signals, int]) -> None:
    """Has `interruptible` take other signals for those that ask to end: {signal: its number}."""
    _comes_as.update(numbers)


Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def heard(numbers: Iterable[int], handler: Handler) -> Iterator[None]:
    """Has `handler` called at signals. What is ignored, as under nohup, stays so."""
    before = {each: signal.getsignal(each) for each in numbers}
    # None: a library's own, which Python could not put back.
    before = {n: each for n, each in before.items() if each not in (signal.SIG_IGN, None)}
    try:
        for each in before:
            signal.signal(each, handler)
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


def end_at_next(numbers: Iterable[int], handler: Handler) -> None:
    """Has the next of those signals that `handler` hears end the process; one at once does not."""
    time.sleep(SAME_REQUEST_SECONDS)
    for each in numbers:
        if signal.getsignal(each) is handler:
            signal.signal(each, signal.SIG_DFL)


@contextlib.contextmanager
def interruptible(target: str) -> Iterator[Signals]:
    """A signal raises InterruptedRunError, or waits until the end; a second one ends the process.

    In a thread beside the main one, where Python has no signals, nothing is changed.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    known = {number: each for each, number in _comes_as.items()}

    def asked(number: int, frame: FrameType | None) -> None:
        if signals.number is not None:
            return
        signals.number = number
        end_at_next(known, asked)
        if not signals.is_held:
            raise _InterruptedError

    try:
        with heard(known, asked):
            yield signals
    except _InterruptedError as error:
        assert signals.number is not None
        message = f"interrupted; {target} is as it was"
        raise InterruptedRunError(message, known[signals.number]) from error
    if signals.number is not None:
        os.kill(os.getpid(), signals.number)
