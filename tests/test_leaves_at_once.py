"""Several leaves are written at once; one that has to be whole in memory is so alone."""

import errno
import os
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest

from shared.checkpoint.convert import convert
from shared.checkpoint.formats import orbax_arrays, workers
from shared.checkpoint.formats.orbax import open_orbax, write_orbax
from shared.checkpoint.formats.orbax_arrays import StoredArray
from shared.checkpoint.formats.workers import StoppedError, with_workers, workers_for
from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.integrity.read_back import read_back
from shared.checkpoint.options import Options
from shared.checkpoint.stored import Leaf
from shared.checkpoint.tree.layers import Layout
from shared.errors import CorruptFileError, FileAccessError

F4 = np.dtype(np.float32)
LARGE = Leaf((2, 500_000), F4)


@pytest.fixture(autouse=True)
def four_workers(monkeypatch):
    monkeypatch.setattr(workers, "WORKERS", 4)


def test_each_item_is_taken_by_one_thread():
    barrier = threading.Barrier(3)

    def work(queue):
        barrier.wait(10)  # all three are there
        return list(queue)

    found = with_workers(3, range(100), work)
    assert len(found) == 3
    assert sorted(item for each in found for item in each) == list(range(100))


def test_of_one_no_thread_is_made():
    assert with_workers(1, "ab", lambda queue: (threading.get_ident(), list(queue))) == [
        (threading.get_ident(), ["a", "b"])
    ]


def test_the_first_failure_stops_what_takes_long():
    has_begun, ended = threading.Event(), []

    def work(queue):
        for item in queue:
            if item == "fails":
                assert has_begun.wait(10)
                raise ValueError("the first")
            has_begun.set()
            with pytest.raises(StoppedError):
                until_stopped(queue)
            ended.append(item)
            queue.check()

    with pytest.raises(ValueError, match="the first"):
        with_workers(2, ["fails", "long", "never"], work)
    assert ended == ["long"]


def until_stopped(queue):
    while True:
        queue.check()
        time.sleep(0.01)


class _Asked(BaseException):
    """What a handler of a signal raises."""


def test_a_signal_stops_the_threads():
    barrier, stopped = threading.Barrier(2), []

    def asked(number, frame):
        raise _Asked

    def work(queue):
        for item in queue:
            barrier.wait(10)  # both threads are there
            if item == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            try:
                until_stopped(queue)
            finally:
                stopped.append(True)

    before = signal.signal(signal.SIGTERM, asked)
    try:
        with pytest.raises(_Asked):
            with_workers(2, range(2), work)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped == [True, True]


def test_few_bytes_are_one_threads_work():
    assert [workers_for(nbytes) for nbytes in (0, 2**20 - 1, 2**20)] == [1, 1, 4]


def test_leaves_that_are_written_at_once_are_all_there(tmp_path):
    leaves = {(f"layer_{i}", name): LARGE for i in range(6) for name in ("kernel", "scale")}
    leaves |= {(f"layer_{i}", "bias"): Leaf((5,), F4) for i in range(6)}
    numbers = {path: np.full(leaf.shape, i, F4) for i, (path, leaf) in enumerate(leaves.items())}
    threads = set()

    def read(path):
        threads.add(threading.get_ident())
        return iter([numbers[path].reshape(-1)])

    write_orbax(str(tmp_path / "a"), leaves, read)
    assert threading.get_ident() not in threads
    reader = open_orbax(str(tmp_path / "a"))
    assert reader.leaves == leaves
    assert all(np.array_equal(reader.read(path), numbers[path]) for path in leaves)


def source_of(folder, leaves):
    write_orbax(str(folder), leaves, lambda path: np.ones(leaves[path].shape, F4))
    return str(folder)


def peak_of(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_leaf_that_only_moves_is_never_whole_in_memory(tmp_path):
    leaf = Leaf((20, 10**6), F4)
    names = ("kernel", "bias", "scale", "mean")
    source = source_of(tmp_path / "a", {("params", "Dense_0", name): leaf for name in names})
    peak = peak_of(lambda: convert(source, str(tmp_path / "b")))
    assert peak < leaf.nbytes * 0.6


def test_of_leaves_that_are_made_anew_one_alone_is_in_memory(tmp_path):
    leaves = {
        ("params", f"layers_{i}", name): Leaf((5, 10**6), F4)
        for i in range(2)
        for name in ("kernel", "bias", "scale")
    }
    source = source_of(tmp_path / "a", leaves)
    options = Options(layout=Layout("stacked", 0))
    peak = peak_of(lambda: convert(source, str(tmp_path / "b"), options))
    # The stack of two, one of its layers, and some parts.
    assert 40e6 < peak < 1.5 * 40e6 + 10e6


def test_a_leaf_is_not_written_to_its_end_after_another_has_failed(tmp_path):
    has_failed, most = threading.Event(), 1000
    given = 0

    def read(path):
        if path == ("fails",):
            has_failed.set()
            raise ValueError("damaged")
        return parts()

    def parts():
        nonlocal given
        assert has_failed.wait(10)
        for _ in range(most):
            given += 1
            time.sleep(0.002)
            yield np.zeros(1000, F4)

    leaves = {("long",): Leaf((most, 1000), F4), ("fails",): LARGE}
    with pytest.raises(ValueError, match="damaged"):
        write_orbax(str(tmp_path / "a"), leaves, read)
    assert given < most


def test_a_leaf_is_not_read_back_to_its_end_after_another_has_failed(tmp_path, monkeypatch):
    leaves = {("fails",): LARGE, ("long",): Leaf((1000, 1000), F4)}
    source, target = source_of(tmp_path / "a", leaves), str(tmp_path / "b")
    manifest = Manifest("orbax", "nnx", leaves, dict.fromkeys(leaves, "another"))
    part, parts, has_begun = StoredArray._part, [], threading.Event()

    def slowly(self, stream, size):
        if self.leaf.endswith("long"):
            has_begun.set()
            time.sleep(0.002)
        else:
            assert has_begun.wait(10)
        parts.append(self.leaf)
        return part(self, stream, size)

    monkeypatch.setattr(orbax_arrays, "PART", 4000)
    monkeypatch.setattr(StoredArray, "_part", slowly)
    with pytest.raises(CorruptFileError, match="fails has other bytes than were written"):
        read_back(manifest, source, target, lambda done, what: None)
    assert 0 < sum(name.endswith("long") for name in parts) < 1000


def test_a_disk_that_is_full_ends_all_threads(tmp_path, monkeypatch):
    leaves = {
        ("params", f"layers_{i}", name): LARGE
        for i in range(4)
        for name in ("kernel", "bias", "scale", "mean")
    }
    source = source_of(tmp_path / "a", leaves)
    write, left = os.write, [10]

    def full(file, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, content)

    monkeypatch.setattr(os, "write", full)
    for layout in (Layout(), Layout("stacked", 0)):
        with pytest.raises(FileAccessError, match="No space left"):
            convert(source, str(tmp_path / "b"), Options(layout=layout))
    assert os.listdir(tmp_path) == ["a"]
