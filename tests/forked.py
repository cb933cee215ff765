"""Calls in processes that are forked from one that has imported all they need."""

import os
import signal
import sys
import warnings
from pathlib import Path

from shared.cli.exit_codes import guarded

# Threads of libraries are not forked: this process starts none.
warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
SECONDS = 60


def started(call, said):
    """The number of a process that makes a call as a command; its stderr is in a file."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
            signal.alarm(SECONDS)
            code = guarded(call, verbose=False)
        finally:
            os._exit(code)
    return child


def ended(child, said):
    """(exit code, what it said) of a process that was started."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), Path(said).read_text(errors="replace")


def in_child(call, said):
    """(exit code, what it said) of a call."""
    return ended(started(call, said), said)
