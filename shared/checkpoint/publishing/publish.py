"""A new checkpoint gets its name when it is complete, and nothing that was there is deleted."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator

from shared.checkpoint.publishing.file_system import (
    can_exchange,
    exchange,
    inode,
    place,
    sync,
    sync_names,
)
from shared.checkpoint.publishing.journal import SUFFIX as JOURNAL
from shared.checkpoint.publishing.lock import locked
from shared.checkpoint.publishing.siblings import (
    LONGEST_ADDED,
    Sibling,
    beside,
    left_behind,
    settle,
)
from shared.checkpoint.publishing.signals import interruptible
from shared.errors import ComposedLiftsError, FileAccessError, UsageError

Told = Callable[[str], object]
_NAME_MAX = 255


@dataclasses.dataclass(frozen=True)
class New:
    """What becomes the target.

    Attributes:
      path: nothing is there yet; a file or a directory is to be written. `beside(path)`, if it is
        written too, becomes `beside(target)`.
      lock: a descriptor of the lock. A process that writes for this one is to inherit it: until it
        has ended as well, no other one writes the target.
    """

    path: str
    lock: int


@contextlib.contextmanager
def publishing(
    target: str,
    source: str | None = None,
    check_replaced: Callable[[str], object] | None = None,
    told: Told = lambda message: None,
    is_gone_on_with: Callable[[str], bool] = lambda path: False,
) -> Iterator[New]:
    """Gives a place to write to; what is there at a normal end becomes `target`, in one step.

    After an error, Ctrl-C or SIGTERM the target is as it was, and the new one is gone. After a
    `kill -9` the new one is left, and removed, or gone on with, when a checkpoint is next published
    there.

    Args:
      target: a path at which nothing is; the folder it is in is there.
      source: what the checkpoint is made from: neither may be within the other.
      check_replaced: of --overwrite. It is called with what stands at the target, and raises where
        that is no checkpoint. What was there is kept beside it, as `<target>.bak-<time>`.
      told: is called with what a user is to know: what was found, what is kept and where.
      is_gone_on_with: is asked of what a process that was killed has left; if so, it and its
        journal are what is yielded.

    Raises:
      UsageError: source and target are one, or one is within the other.
      FileAccessError: the target is there, or no checkpoint, or another process writes it, or the
        system refuses.
      InterruptedRunError: SIGINT or SIGTERM came before the target was there.
    """
    target = _resolved(target, source)
    with interruptible(target) as signals, locked(target) as lock, _one_line(target):
        left = _settle_others(target, told, is_gone_on_with)
        _check_free(target, check_replaced)
        sibling = Sibling.of(target)
        try:
            if left:
                place(left.path, sibling.path)
                place(left.path + JOURNAL, sibling.path + JOURNAL)
            if sibling.replaced and not can_exchange(sibling.path):
                raise FileAccessError(
                    f"{target}: its file system cannot exchange two names in one step, so nothing "
                    f"is replaced; choose another target"
                )
            yield New(sibling.path, lock)
            sync(sibling.path)
            if inode(beside(sibling.path)):
                sync(beside(sibling.path))
            signals.hold()
            _publish(sibling)
            if kept := settle(sibling):
                told(kept)
            sync_names(os.path.dirname(target))
        except BaseException:
            signals.is_held = True
            _take_back(sibling, told)
            raise


def clear(target: str, told: Told = lambda message: None) -> None:
    """Removes what a process that was ended has left beside a target, if no other one writes it."""
    path = _resolved(target, None)
    with contextlib.suppress(FileAccessError), locked(path):
        _settle_others(path, told)


def _resolved(target: str, source: str | None) -> str:
    """The target by its real folder; it itself may be no link."""
    path = os.path.abspath(target)
    folder, name = os.path.split(path)
    if not name:
        raise FileAccessError(f"{target}: is there already; name what is to be made in it")
    if not os.path.isdir(folder):
        what = "is no folder" if os.path.lexists(folder) else "is not there"
        raise FileAccessError(f"{target}: cannot be written: {folder} {what}; make that folder")
    if len(os.fsencode(name)) > _NAME_MAX - LONGEST_ADDED:
        raise FileAccessError(
            f"{target}: its name is of {len(os.fsencode(name))} bytes, the most is "
            f"{_NAME_MAX - LONGEST_ADDED}; choose a shorter one"
        )
    path = os.path.join(os.path.realpath(folder), name)
    if source is not None:
        real = os.path.realpath(source)
        if os.path.commonpath([real, os.path.realpath(path)]) in (real, os.path.realpath(path)):
            raise UsageError(
                f"{target} and the source {source} are one, or one is within the other; choose a "
                f"target outside"
            )
    return path


def _settle_others(
    target: str, told: Told, is_gone_on_with: Callable[[str], bool] = lambda path: False
) -> Sibling | None:
    """Under the lock: whose siblings there are has ended. One may be left, to be gone on with."""
    left: Sibling | None = None
    for sibling in left_behind(target):
        if left is None and sibling.is_unfinished and is_gone_on_with(sibling.path):
            told(f"{sibling.path}, left by process {sibling.process}: gone on with")
            left = sibling
            continue
        try:
            done = settle(sibling) or "removed"
        except OSError as error:
            done = f"cannot be removed: {error.strerror or error}"
        told(f"{sibling.path}, left by process {sibling.process}: {done}")
    return left


def _check_free(target: str, check_replaced: Callable[[str], object] | None) -> None:
    if os.path.islink(target):
        raise FileAccessError(f"{target}: is a symbolic link; name what it leads to, or another")
    if not os.path.lexists(target):
        if os.path.lexists(beside(target)):
            raise FileAccessError(
                f"{beside(target)}: is there without its checkpoint; move it, or choose another "
                f"target"
            )
        return
    if check_replaced is None:
        raise FileAccessError(
            f"{target}: is there already; choose another target, or --overwrite it if it is a "
            f"checkpoint"
        )
    try:
        check_replaced(target)
    except ComposedLiftsError as error:
        raise FileAccessError(
            f"{target}: --overwrite replaces only a checkpoint: {error}; choose another target"
        ) from error


def _publish(sibling: Sibling) -> None:
    """What may be killed after any step: `settle` then finishes it, or takes it back."""
    target = sibling.target
    if not sibling.replaced:
        place(sibling.path, target)
        return
    if inode(target) != sibling.replaced:
        raise FileAccessError(f"{target}: has been changed meanwhile, and is not replaced")
    if inode(beside(target)):
        # See `late_manifest`.
        place(beside(target), beside(sibling.backup))
    exchange(sibling.path, target)


def _take_back(sibling: Sibling, told: Told) -> None:
    """After an error, which is not to be hidden by one of this."""
    try:
        if kept := settle(sibling):
            told(f"{sibling.path}: {kept}")
    except OSError as error:
        told(f"{sibling.path}: cannot be removed: {error.strerror or error}")


@contextlib.contextmanager
def _one_line(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileAccessError(
            f"{target}: cannot be written: {error.strerror or error}; choose a writable folder "
            f"with free space"
        ) from error
