"""Ctrl-C and SIGTERM while a checkpoint is written: what was begun is taken back, or ended."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

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


@contextlib.contextmanager
def interruptible(target: str) -> Iterator[Signals]:
    """A signal raises InterruptedRunError, or waits until the end; a second one ends the process.

    In a thread beside the main one, where Python has no signals, nothing is changed.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def asked(number: int, frame: object) -> None:
        if signals.number is not None:
            return
        signals.number = number
        time.sleep(SAME_REQUEST_SECONDS)
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        if not signals.is_held:
            raise _InterruptedError

    before = {each: signal.getsignal(each) for each in SIGNALS}
    # What is ignored, as under nohup, stays so.
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}
    for each in before:
        signal.signal(each, asked)
    try:
        yield signals
    except _InterruptedError as error:
        number = signals.number or 0
        raise InterruptedRunError(f"interrupted; {target} is as it was", number) from error
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if signals.number is not None:
        os.kill(os.getpid(), signals.number)
