"""Threads that take what is to be done from one queue; the first that fails stops all of them."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# How many leaves are written or read at once, each by a thread of its own, where there are so many
# bytes: to decompress and hash a leaf is more work than to write or read it.
WORKERS, LARGE = min(4, os.cpu_count() or 1), 2**20


def workers_for(nbytes: int) -> int:
    """How many threads leaves of so many bytes in all are shared by."""
    return WORKERS if nbytes >= LARGE else 1


class StoppedError(Exception):
    """Another thread has failed."""


class Queue(Iterator[T], Generic[T]):
    """Items, each of which one thread takes.

    Attributes:
      failure: what the first thread that failed has raised.
    """

    def __init__(self, items: Iterable[T]):
        self._items = iter(items)
        self._changed = threading.Condition()
        self._at_work, self._ended = 0, 0
        self.failure: BaseException | None = None

    def __next__(self) -> T:
        with self._changed:
            self.check()
            return next(self._items)

    def check(self) -> None:
        """To be called at times by what takes long.

        Raises:
          StoppedError: there is a failure.
        """
        if self.failure is not None:
            raise StoppedError

    def fail(self, failure: BaseException) -> None:
        """Stops all threads."""
        with self._changed:
            self.failure = self.failure or failure
            self._changed.notify_all()

    def begin(self) -> bool:
        """Of a thread: whether it is to work."""
        with self._changed:
            self._at_work += self.failure is None
            return self.failure is None

    def end(self) -> None:
        """Of a thread that has worked."""
        with self._changed:
            self._at_work -= 1
            self._ended += 1
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        """Until so many have ended, or one has failed."""
        self._wait_for(lambda: self._ended == count or self.failure is not None)

    def wait_for_all(self) -> None:
        """Until none is at work."""
        self._wait_for(lambda: not self._at_work)

    def _wait_for(self, is_so: Callable[[], bool]) -> None:
        with self._changed:
            # A signal that came just before who waits is asleep would not wake it.
            while not self._changed.wait_for(is_so, timeout=0.2):
                pass


def with_workers(count: int, items: Iterable[T], work: Callable[[Queue[T]], R]) -> list[R]:
    """What `work` returns in each of `count` threads that share the items; of one none is made.

    Raises:
      Whatever was raised first, when no thread works any more.
    """
    queue = Queue(items)
    if count == 1:
        return [work(queue)]
    found: list[R] = []

    def worked() -> None:
        if not queue.begin():
            return
        try:
            found.append(work(queue))
        except BaseException as error:
            queue.fail(error)
        finally:
            queue.end()

    try:
        for _ in range(count):
            # An executor does not know of a thread in whose start a signal came.
            threading.Thread(target=worked).start()
        queue.wait(count)
    except BaseException as error:  # of a signal, which comes to the main thread alone
        queue.fail(error)
        raise
    finally:
        queue.wait_for_all()
    if queue.failure is not None:
        raise queue.failure
    return found
