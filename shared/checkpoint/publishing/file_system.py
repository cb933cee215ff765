"""What the system does whole or not at all, and what it keeps when the power fails."""

import ctypes
import errno
import os

from shared.errors import FileAccessError

# Room for what a file system keeps beside the bytes.
MARGIN = 1.2
_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def place(new: str, target: str) -> None:
    """Renames a file or a directory; nothing is ever replaced.

    Raises:
      OSError: it cannot be done; FileExistsError where something is there.
    """
    try:
        _renameat2(new, target, _NOREPLACE)
        return
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    # As on NFS. The name of a directory replaces nothing but an empty one, which holds nothing to
    # lose; a second link to a file replaces nothing.
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    if os.path.isdir(new):
        os.rename(new, target)
    else:
        os.link(new, target)
        os.unlink(new)


def exchange(one: str, other: str) -> None:
    """Exchanges the names of two files or directories in one step.

    Raises:
      OSError: it cannot be done.
    """
    _renameat2(one, other, _EXCHANGE)


def can_exchange(path: str) -> bool:
    """Whether the file system of `path`, which is not there yet, exchanges names.

    Raises:
      OSError: no file can be made there.
    """
    names = [f"{path}.exchange-{number}" for number in (1, 2)]
    try:
        for name in names:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        exchange(*names)
        return True
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:
            return False
        raise
    finally:
        for name in filter(os.path.lexists, names):
            os.unlink(name)


def sync(path: str) -> None:
    """Has all of a file or a directory on the disk, whatever happens to the machine then.

    Raises:
      OSError: it cannot be written.
    """
    if not os.path.isdir(path):
        _sync_one(path)
        return
    for folder, _, files in os.walk(path, topdown=False, onerror=_raise):
        for name in files:
            _sync_one(os.path.join(folder, name))
        _sync_one(folder)


def sync_names(folder: str) -> None:
    """Has the names in a directory on the disk.

    Raises:
      OSError: it cannot be written.
    """
    _sync_one(folder)


def inode(path: str) -> int:
    """The number that a file or a directory keeps under any name; 0 where there is none."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return 0


def check_room(target: str, nbytes: int) -> None:
    """Stops where a checkpoint would not fit.

    Args:
      target: where it is to be; the folder it is in is there.
      nbytes: of all its numbers.

    Raises:
      FileAccessError: the disk has not enough room.
    """
    folder = os.path.dirname(os.path.abspath(target))
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise FileAccessError(f"{folder}: cannot be read: {error.strerror}") from error
    needed, free = int(MARGIN * nbytes), found.f_bavail * found.f_frsize
    if free < needed:
        raise FileAccessError(
            f"{target}: needs {needed:,} bytes, its disk has {free:,}; make room, or choose "
            f"another folder"
        )


def _renameat2(source: str, target: str, flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), target)
    names = os.fsencode(source), os.fsencode(target)
    if library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


def _sync_one(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise(error: OSError) -> None:
    raise error
