"""What is written beside a target until it is complete, and what of it a killed process leaves."""

import contextlib
import dataclasses
import datetime
import os
import re
import shutil
from collections.abc import Iterator

from shared.checkpoint.publishing.file_system import inode, place

_STAMP = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"-(\d+)-(\d{8}T\d{6}\.\d{6}Z)-(\d+)")
# A manifest of a checkpoint that is one file.
BESIDE = ".manifest.json"
# More than is added to the name of a target, by this and by Orbax.
LONGEST_ADDED = 120


@dataclasses.dataclass(frozen=True)
class Sibling:
    """A new checkpoint, `<target>.tmp-<process>-<time>-<inode>`, until it gets its name.

    Attributes:
      target: what it is to be called.
      process: the number of the one that writes it.
      stamp: when that began, UTC.
      replaced: the inode of what stood at the target then, 0 of nothing. It tells, at any moment,
        which of the two the exchange of their names has put where.
    """

    target: str
    process: int
    stamp: str
    replaced: int

    @classmethod
    def of(cls, target: str) -> "Sibling":
        """One of this process."""
        now = datetime.datetime.now(datetime.UTC)
        return cls(target, os.getpid(), now.strftime(_STAMP), inode(target))

    @property
    def path(self) -> str:
        """Where it is written, a file or a directory."""
        return f"{self.target}.tmp-{self.process}-{self.stamp}-{self.replaced}"

    @property
    def is_unfinished(self) -> bool:
        """Whether it is there, and certainly not what stood at the target."""
        here, there = inode(self.path), inode(self.target)
        return bool(here) and here != self.replaced and there == self.replaced

    @property
    def backup(self) -> str:
        """Where it is kept what stood at the target."""
        return f"{self.target}.bak-{self.stamp}"


def is_sibling(path: str) -> bool:
    """Whether it is what a process was writing, or in that, and may not be complete."""
    names = os.path.abspath(path).split(os.sep)
    return any(_NAME.fullmatch(part) for name in names for part in name.split(".tmp")[1:])


def beside(checkpoint: str) -> str:
    """Where the manifest of a checkpoint is that is one file."""
    return checkpoint + BESIDE


def late_manifest(target: str) -> str:
    """Where that of a file is while it is published, or if that was killed; "" if it has none.

    Two names cannot change in one step. The manifest of the old file leaves its name first, that of
    the new one comes last; which of the two files is there, the inode tells.

    Raises:
      OSError: the folder cannot be read.
    """
    for sibling in left_behind(os.path.abspath(target)):
        is_old = inode(target) == sibling.replaced
        path = beside(sibling.backup if is_old else sibling.path)
        if inode(path):
            return path
    return ""


def left_behind(target: str) -> list[Sibling]:
    """Those of a target that are there; under its lock all are of processes that have ended.

    Raises:
      OSError: the folder cannot be read.
    """
    folder, name = os.path.split(target)
    prefix, found = f"{name}.tmp", {}
    for each in sorted(os.listdir(folder)):
        match = _NAME.match(each.removeprefix(prefix)) if each.startswith(prefix) else None
        if match:
            found[match[0]] = Sibling(target, int(match[1]), match[2], int(match[3]))
    return list(found.values())


def settle(sibling: Sibling) -> str:
    """Ends what was begun with a sibling, wherever it stopped: finished, or taken back.

    Returns:
      What is kept and where; "" if nothing is.

    Raises:
      OSError: it cannot be done.
    """
    here, there = inode(sibling.path), inode(sibling.target)
    is_published = bool(there) and there != sibling.replaced and here in (0, there)
    if sibling.replaced and here == sibling.replaced:
        place(sibling.path, sibling.backup)
        is_published = True
    elif sibling.replaced and here and there != sibling.replaced:
        return (
            f"left as it is, for {sibling.target} is not what it was; it is the new checkpoint or "
            f"the one that it was to replace"
        )
    if is_published:
        if inode(beside(sibling.path)):
            place(beside(sibling.path), beside(sibling.target))
    elif inode(beside(sibling.backup)) and not inode(sibling.backup):
        place(beside(sibling.backup), beside(sibling.target))
    for path in _all_of(sibling):
        _remove(path)
    if sibling.replaced and inode(sibling.backup) == sibling.replaced:
        return f"what was at {sibling.target} is kept as {sibling.backup}"
    return ""


def _all_of(sibling: Sibling) -> Iterator[str]:
    """What stands under its name, and what a library has put beside that."""
    folder, name = os.path.split(sibling.path)
    for each in sorted(os.listdir(folder), reverse=True):  # it itself comes last
        if each.startswith(name):
            yield os.path.join(folder, each)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
