"""One process at a time writes a target: the second is told who does."""

import contextlib
import datetime
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator

from shared.errors import FileAccessError

SUFFIX = ".lock"
_TEXT = re.compile(rb"process \d+ since \S{1,40}\n")
_LONGEST = 100
# The first one writes its number at once.
_PATIENCE_SECONDS = 1.0


@contextlib.contextmanager
def locked(target: str) -> Iterator[int]:
    """Holds `<target>.lock`, which is gone at the end.

    Yields:
      Its descriptor: the lock is held until all processes that have it end.

    Raises:
      FileAccessError: another process holds it, named, or the file cannot be made.
    """
    path = target + SUFFIX
    try:
        descriptor = _taken(path)
    except OSError as error:
        raise FileAccessError(
            f"{target}: cannot be written: {path}: {error.strerror or error}; choose a writable "
            f"folder with free space"
        ) from error
    try:
        yield descriptor
    finally:
        # While it is held: who opened it before finds another file, or none, under the name.
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _taken(path: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            _check_ours(descriptor, path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(descriptor, path):
                now = datetime.datetime.now(datetime.UTC)
                text = f"process {os.getpid()} since {now:%Y-%m-%dT%H:%M:%SZ}\n"
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, text.encode(), 0)
                return descriptor
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise FileAccessError(
                f"{path.removesuffix(SUFFIX)}: {holder} writes it; wait for its end, or choose "
                f"another target"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _check_ours(descriptor: int, path: str) -> None:
    """What is there by that name may be a user's."""
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    text = os.pread(descriptor, _LONGEST, 0) if is_file else b""
    if not is_file or (text and not _TEXT.fullmatch(text)):
        raise FileAccessError(
            f"{path}: is no lock of composed-lifts, and would be in its place; choose another "
            f"target"
        )


def _is_named(descriptor: int, path: str) -> bool:
    """Whether it is still what stands under the name: who had it before has removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        if text := os.pread(descriptor, _LONGEST, 0):
            return text.decode(errors="replace").strip()
        time.sleep(0.01)
    return "another process"
