"""Any tree is written and read again or refused before; no more than one leaf is in memory."""

import errno
import math
import os
import weakref

import hypothesis.strategies as st
import numpy as np
import pytest
from checkpoint_trees import arrays, layouts, leaf_names
from hypothesis import given
from orbax_files import assert_leaves, write

from shared.checkpoint.formats import orbax_arrays, orbax_names, orbax_value_files
from shared.checkpoint.formats.contents import DTYPES
from shared.checkpoint.formats.orbax import open_orbax, write_orbax
from shared.checkpoint.stored import Leaf, nothing
from shared.errors import FileAccessError, InputError

F4 = np.dtype(np.float32)


# What neither TensorStore nor Orbax has.
WITHOUT = ("uint2", "uint4", "float8_e4m3")
NUMBERS = arrays(tuple(name for name in DTYPES if name not in WITHOUT))
KINDS = st.sampled_from(["array", "numpy", "scalar"])
NODES = st.recursive(
    st.one_of(st.tuples(KINDS, NUMBERS, layouts), st.sampled_from(["None", "Dict", "List"])),
    lambda below: st.one_of(
        st.lists(below, min_size=1, max_size=3),
        st.dictionaries(leaf_names, below, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


@given(st.dictionaries(leaf_names, NODES, min_size=1, max_size=3), st.integers(1, 64))
def test_any_tree_is_read_again_or_refused(tmp_path_factory, tree, chunk):
    path = tmp_path_factory.mktemp("written") / "a"
    expected = dict(_leaves(tree))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orbax_names, "CHUNK", chunk)
        patch.setattr(orbax_value_files, "INLINE", 8)
        patch.setattr(orbax_value_files, "FILE", 100)
        try:
            write(path, expected)
        except InputError:
            assert not path.exists()
            names = [".".join(map(str, each)) for each in expected]
            full = [leaf for leaf, _ in expected.values() if leaf.kind != "empty"]
            assert len(set(names)) < len(names) or not full or any(0 in leaf.shape for leaf in full)
            return
        reader = assert_leaves(path, expected)
        # Of what is written here no array is read whole to be given in parts.
        patch.setattr(orbax_arrays.StoredArray, "read", lambda self: pytest.fail("is read whole"))
        assert all(list(reader.parts(each)) for each, (leaf, _) in expected.items() if leaf.nbytes)


def _leaves(node, path=()):
    if isinstance(node, str):
        yield path, (nothing(node), None)
    elif isinstance(node, tuple):
        kind, array, layout = node
        yield path, (Leaf(array.shape, array.dtype, kind), layout(array).astype(array.dtype))
    else:
        for key, below in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(below, (*path, key))


@given(st.lists(st.integers(1, 40), max_size=4), st.integers(1, 600))
def test_chunks_are_of_a_size_and_hardly_reach_beyond_the_array(shape, most):
    leaf = Leaf(tuple(shape), F4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orbax_names, "CHUNK", most)
        chunks = orbax_names.chunks_of(leaf)
    assert math.prod(chunks) * 4 <= max(4, most)
    counts = [-(-n // k) for n, k in zip(shape, chunks, strict=True)]
    # Beyond the last chunk along an axis there is less than one row for each other chunk.
    assert all(k * c - n < c for n, k, c in zip(shape, chunks, counts, strict=True))
    if leaf.nbytes > most and math.prod(chunks) > 1:
        assert math.prod(chunks) * 4 * 3 > min(most, leaf.nbytes)


def test_a_file_that_is_full_is_followed_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr(orbax_value_files, "FILE", 5000)
    leaves = {(f"layer_{i}",): (Leaf((500,), F4), np.full(500, i, F4)) for i in range(7)}
    write(tmp_path / "a", leaves)
    # Of 2000 bytes each; and the one of the index.
    assert len(os.listdir(tmp_path / "a" / "d")) == 3 + 1
    assert_leaves(tmp_path / "a", leaves)


ARRAY = Leaf((2,), F4)
REFUSED = {
    "nothing": ({}, "holds no checkpoint without numbers"),
    "no numbers": ({("a",): nothing("None")}, "holds no checkpoint without numbers"),
    "no name": ({(): ARRAY}, "holds no array without a name"),
    "one name": (
        {("a", "b"): ARRAY, ("a.b",): ARRAY},
        "leaf a.b and a/b would both be stored",
    ),
    "no length": ({("a",): Leaf((2, 0), F4)}, r"leaf a: \(2, 0\) is an array without numbers"),
    "NUL": ({("a\0",): ARRAY}, r"leaf a\\x00: the name a\\x00 would lead out"),
    "up": ({("a", ".."): ARRAY}, r"leaf a/\.\.: the name \.\. would lead out"),
    "up and on": ({("x/../../a",): ARRAY}, "would lead out"),
    "absolute": ({("/a",): ARRAY}, "the name /a would lead out"),
    "inside": ({("a",): ARRAY, ("a", "b"): ARRAY}, "leaf a: has leaves below it"),
    "gap": ({("a", 0): ARRAY, ("a", 2): ARRAY}, "leaf a: a sequence of 2 that is not numbered"),
    "mixed": ({("a", 0): ARRAY, ("a", "b"): ARRAY}, "leaf a: a sequence of 2 that is not"),
    "text": ({("a",): Leaf((), np.dtype("U3"))}, "leaf a: .*U3"),
    "object": ({("a",): Leaf((), np.dtype(object))}, "leaf a: .*object"),
    "date": ({("a",): Leaf((), np.dtype("M8[s]"))}, "leaf a: .*datetime64"),
    "record": ({("a",): Leaf((), np.dtype([("x", "f4")]))}, "leaf a: .*x"),
    "key": ({("a",): Leaf((2,), F4, "key", "threefry2x32")}, "a PRNG key of float32"),
    "dtype": ({("a",): Leaf((), DTYPES["uint4"])}, "leaf a: Orbax cannot hold uint4"),
    "kind": ({("a",): Leaf((2,), F4, "other")}, "no leaf of kind other"),
}


@pytest.mark.parametrize("leaves", REFUSED)
def test_what_orbax_cannot_hold_is_refused_before_anything_is_written(tmp_path, leaves):
    leaves, match = REFUSED[leaves]
    with pytest.raises(InputError, match=match) as caught:
        write_orbax(str(tmp_path / "a"), leaves, lambda path: pytest.fail("was read"))
    assert "\n" not in str(caught.value)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("as_parts", [False, True])
def test_no_two_leaves_are_in_memory(tmp_path, as_parts):
    leaves = {(f"layer_{i}",): Leaf((50, 100), F4) for i in range(6)}
    alive, most = weakref.WeakSet(), 0

    def read(path):
        nonlocal most
        array = np.full((50, 100), float(path[0][-1]), F4).view(_Counted)
        alive.add(array)
        most = max(most, len(alive))
        return array if not as_parts else iter([array.reshape(-1)[:3000], array.reshape(-1)[3000:]])

    write_orbax(str(tmp_path / "a"), leaves, read)
    assert most == 1
    reader = open_orbax(str(tmp_path / "a"))
    assert all((reader.read(path) == float(path[0][-1])).all() for path in leaves)


class _Counted(np.ndarray):
    """An array of which a weak set knows whether it is in memory."""

    __hash__ = object.__hash__


WRONG = {
    "dtype": (np.zeros((2, 3)), "received float64"),
    "shape": (np.zeros((3, 2), F4), r"received \(3, 2\)"),
    "fewer": (iter([np.zeros(5, F4)]), "received fewer numbers"),
    "more": (iter([np.zeros(6, F4), np.zeros(1, F4)]), "received more numbers"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_other_numbers_than_said_are_refused(tmp_path, wrong):
    received, match = WRONG[wrong]
    with pytest.raises(InputError, match=rf"leaf a: expected float32 \(2, 3\), {match}"):
        write_orbax(str(tmp_path / "a"), {("a",): Leaf((2, 3), F4)}, lambda path: received)


@pytest.mark.parametrize("call", ["write", "fsync", "mkdir"])
def test_what_the_system_refuses_is_said(tmp_path, monkeypatch, call):
    def refuses(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, refuses)
    big = Leaf((1000,), F4)
    with pytest.raises(FileAccessError, match="b: a checkpoint cannot be written: No space left"):
        write_orbax(str(tmp_path / "b"), {("x",): big}, lambda path: np.zeros(1000, F4))
