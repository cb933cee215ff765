"""The next part is read while one is used, no more than it; what fails is raised in its turn."""

import threading
import tracemalloc
import weakref

import numpy as np
import pytest

from shared.checkpoint.convert import convert
from shared.checkpoint.formats.orbax import write_orbax
from shared.checkpoint.planning.ahead import ahead
from shared.checkpoint.stored import Leaf


class Part:
    """What a weak set knows to be in memory."""


def test_all_items_come_in_order():
    assert list(ahead(iter(range(20)))) == list(range(20))
    assert list(ahead([])) == []


def test_one_more_is_made_meanwhile_by_another_thread():
    alive, most, second = weakref.WeakSet(), [], threading.Event()

    def parts():
        for number in range(5):
            part = Part()
            alive.add(part)
            most.append(len(alive))
            if number == 1:
                second.set()
            yield part
            del part

    used = ahead(parts())
    part = next(used)
    # It is made though nobody has asked for it.
    assert second.wait(10)
    for part in used:
        del part
    assert max(most) <= 2


def test_what_fails_is_raised_in_its_turn():
    def parts():
        yield 1
        raise ValueError("damaged")

    used = ahead(parts())
    assert next(used) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(used)


def test_who_stops_early_leaves_no_thread():
    before = threading.active_count()
    used = ahead(iter(range(10)))
    next(used)
    used.close()
    assert threading.active_count() == before


def test_a_leaf_that_only_moves_is_never_whole_in_memory(tmp_path):
    leaf = Leaf((20, 10**6), np.dtype(np.float32))
    leaves = {("params", "Dense_0", name): leaf for name in ("kernel", "bias")}
    write_orbax(str(tmp_path / "a"), leaves, lambda path: np.ones(leaf.shape, leaf.dtype))
    tracemalloc.start()
    try:
        convert(str(tmp_path / "a"), str(tmp_path / "b"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < leaf.nbytes * 0.6
