"""A call in a process of its own: what a damaged file does to a library ends that one alone."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from shared.cli.asking_child import asked_by, blocked, listen, passing_on
from shared.errors import ComposedLiftsError, CorruptFileError, FileAccessError

# A header that lies makes TensorStore ask for memory that is not there, which ends the process.
_ABORTED = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
# PR_SET_PDEATHSIG of prctl(2): what no longer has who waits for it is not to go on.
_ENDS_WITH_PARENT = 1


class EndedError(ComposedLiftsError):
    """The process was ended by a signal; the exit code is that of one that is."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


def apart(call: Callable[[], int], what: str) -> int:
    """The exit code of `call`, which is run in a process of its own.

    Where JAX is loaded already, as in a program that calls the command, it is run in this one: a
    process with threads cannot be forked.

    Args:
      call: prints what is to be said, also of its errors, and returns the exit code.
      what: is read or written, for messages.

    Raises:
      CorruptFileError: a library ended the process.
      FileAccessError: the system did, which is out of memory.
      EndedError: somebody else did.
    """
    if "jax" in sys.modules:
        return call()
    sys.stdout.flush()
    sys.stderr.flush()
    with blocked() as before:
        child = os.fork()
        if child == 0:
            _end_with(call)
        with passing_on(child) as killed_for:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    number = killed_for[0] if killed_for else asked_by(os.WTERMSIG(status))
    if number in _ABORTED:
        raise CorruptFileError(
            f"{what} is damaged: the library that reads it was ended by {_name(number)}; take "
            f"another copy of the checkpoint"
        )
    if number == signal.SIGKILL:
        raise FileAccessError(f"{what}: the process was killed, as it is where memory runs out")
    raise EndedError(f"ended by {_name(number)}", number)


def _end_with(call: Callable[[], int]) -> NoReturn:
    code = 70
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_ENDS_WITH_PARENT, signal.SIGKILL)
        listen()
        code = call()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _name(number: int) -> str:
    return signal.Signals(number).name
