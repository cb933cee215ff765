"""Has a call to the file system fail, in processes that are started with `environment`."""

import contextlib
import enum
import errno
import mmap
import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("fault_shim.c")
# As in fault_shim.c: calls so far, the one that fails, what it does, the number, which, the folder.
STATE = struct.Struct("qqiiii4096s")
ALL, NAMES, INSIDE = range(3)


class What(enum.IntEnum):
    """What happens at a call, in the order that fault_shim.c has."""

    COUNT = 0
    SIGNAL = 1
    ONE_FAILS = 2
    ALL_FAIL = 3
    NO_ROOM = 4
    HALF_READ = 5
    HALF_WRITTEN = 6


KINDS = {
    "kill -9": (What.SIGNAL, signal.SIGKILL),
    "SIGTERM": (What.SIGNAL, signal.SIGTERM),
    "Ctrl-C": (What.SIGNAL, signal.SIGINT),
    "ENOSPC": (What.ONE_FAILS, errno.ENOSPC),
    "ENOSPC from then on": (What.NO_ROOM, errno.ENOSPC),
    "EIO": (What.ONE_FAILS, errno.EIO),
    "EIO from then on": (What.ALL_FAIL, errno.EIO),
    "EACCES": (What.ONE_FAILS, errno.EACCES),
    "EROFS from then on": (What.ALL_FAIL, errno.EROFS),
    "half of a read": (What.HALF_READ, 0),
    "half of a write": (What.HALF_WRITTEN, 0),
}
# The process is held there until it is told to go on.
HELD = (What.SIGNAL, signal.SIGSTOP)


def environment(folder):
    """What a process is to be started with; the compiled library is put into `folder`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("faults are injected by a library in C: install a compiler, `cc`")
    library, state = Path(folder) / "fault_shim.so", Path(folder) / "fault_state"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    state.write_bytes(bytes(STATE.size))
    return os.environ | {"LD_PRELOAD": str(library), "FAULT_STATE": str(state)}


class Faults:
    """Those of the processes that are started with an environment."""

    def __init__(self, started_with):
        with open(started_with["FAULT_STATE"], "r+b") as file:
            self._state = mmap.mmap(file.fileno(), STATE.size)

    @contextlib.contextmanager
    def at(self, folder, fault=(What.COUNT, 0), number=0, depth=ALL):
        """The `number`th call below `folder`, from 1, meets a fault as those of KINDS.

        Counted are all, those on names in the folder, or those further down.
        """
        self._state[:] = STATE.pack(0, number, *fault, depth, 0, os.fsencode(folder))
        try:
            yield
        finally:
            count, *_ = STATE.unpack(self._state[:])
            self._state[:] = STATE.pack(count, 0, What.COUNT, 0, ALL, 0, b"")

    @property
    def count(self):
        """How many calls there were."""
        return STATE.unpack(self._state[:])[0]
