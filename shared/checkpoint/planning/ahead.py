"""The next part of an array is read while one is used."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, the next of which is made in a thread meanwhile: no more than one.

    What making one raises is raised where it would have been given.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        # `next` itself may not raise StopIteration in a thread's future.
        following = thread.submit(_next, iterator)
        while found := following.result():
            following = thread.submit(_next, iterator)
            yield found.pop()


def _next(iterator: Iterator[T]) -> list[T]:
    """A list of the next item, empty at the end: who takes it out is alone to hold it."""
    for item in iterator:
        return [item]
    return []
