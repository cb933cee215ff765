"""The directory of a run's checkpoints: one process at a time, and nothing of anyone else's."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from typing import IO

from shared.errors import FileAccessError, UsageError

LOCK = "lock"
# What Orbax calls a step that is being written; a process that was killed leaves it behind.
UNFINISHED = ".orbax-checkpoint-tmp"


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Makes the directory and holds it for this process; the lock ends with it in any case.

    Raises:
      FileAccessError: it cannot be written to, or another process holds it.
    """
    try:
        os.makedirs(path, exist_ok=True)
        lock = _lock(path)
        # Orbax would find out when training has begun.
        with tempfile.TemporaryDirectory(suffix=UNFINISHED, dir=path):
            pass
    except OSError as error:
        raise FileAccessError(
            f"--checkpoint_dir={path}: cannot be written to: {error.strerror or error}; choose a "
            f"writable folder with free space"
        ) from error
    with lock:
        yield


def _lock(path: str) -> IO[str]:
    # To append leaves what is in it to be read by who comes second.
    lock = open(os.path.join(path, LOCK), "a+")  # noqa: SIM115, it is held until the run ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise FileAccessError(
            f"--checkpoint_dir={path}: process {holder} trains there; wait for its end, or choose "
            f"another folder"
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def steps_in(path: str) -> list[int]:
    """The steps of which there is a checkpoint, in order: one that is there is complete."""
    if not os.path.isdir(path):
        return []
    return sorted(int(name) for name in os.listdir(path) if name.isdecimal())


def check_new(path: str) -> None:
    """Stops where no run can be started.

    Raises:
      UsageError: one has been started there, or there is something else.
    """
    if not os.path.isdir(path):
        return
    steps = steps_in(path)
    if steps:
        raise UsageError(
            f"--checkpoint_dir={path} holds a run after step {steps[-1]}; --resume goes on with "
            f"it, or choose an empty folder"
        )
    others = [name for name in sorted(os.listdir(path)) if name != LOCK and UNFINISHED not in name]
    if others:
        raise UsageError(
            f"--checkpoint_dir={path} holds {others[0]!r}, which is no checkpoint; choose an empty "
            f"folder"
        )
