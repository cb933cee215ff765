"""Flax's msgpack: leaves are read one by one, and what is written is what Flax itself writes."""

import contextlib
import subprocess
import sys

import hypothesis.strategies as st
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from checkpoint_trees import in_memory, layouts, leaf_names, numbers, same_leaves
from flax import serialization
from hypothesis import given

from shared.checkpoint.formats import flax_msgpack
from shared.checkpoint.formats.contents import DTYPES, MAX_LEAVES
from shared.checkpoint.formats.flax_msgpack import open_msgpack, write_msgpack
from shared.checkpoint.stored import Leaf
from shared.errors import CorruptFileError, FileAccessError, InputError

TREE = {
    "params": {
        "kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bias": jnp.ones(3, jnp.bfloat16),
        "none": {},
    },
    "opt_state": ({"mu": np.float64(0.5)}, None),
    "step": 3,
    "rate": -1.5,
    "mixed": 1 + 2j,
    "on": True,
    "large": 2**63,
    "half": np.float16(2),
    "a piece": np.arange(4, dtype=np.float32),
    "no numbers": np.zeros((0, 4)),
    "of sixteen bytes": np.zeros(3, np.uint8),
    "four bits": np.zeros(5, DTYPES["int4"]),
}


@pytest.fixture
def written(tmp_path):
    """A function from a tree to the path of the file that Flax makes of it."""

    def write(tree):
        path = tmp_path / "flax_model.msgpack"
        path.write_bytes(serialization.to_bytes(tree))
        return str(path)

    return write


@pytest.mark.parametrize("piece", [2**30, 16], ids=["whole", "in pieces"])
def test_what_flax_wrote_is_read_and_written_again(piece, written, tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", piece)
    monkeypatch.setattr(flax_msgpack, "MAX_PIECE_BYTES", piece)
    path = written(dict(TREE))
    reader = open_msgpack(path)
    same_leaves(reader, in_memory(serialization.to_state_dict(dict(TREE))))
    copy = tmp_path / "copy"
    write_msgpack(str(copy), reader.leaves, reader.read)
    assert copy.read_bytes() == (tmp_path / "flax_model.msgpack").read_bytes()


@given(st.dictionaries(leaf_names, numbers, min_size=1, max_size=4), layouts)
def test_any_tree_is_written_as_flax_writes_it(tmp_path_factory, leaves, layout):
    target = tmp_path_factory.mktemp("written") / "tree.msgpack"
    nested = {"a": leaves, "b": {"c": leaves}}
    as_read = in_memory(nested)
    write_msgpack(
        str(target),
        {path: leaf for path, (leaf, _) in as_read.items()},
        lambda path: layout(as_read[path][1]),
    )
    assert target.read_bytes() == serialization.to_bytes(nested)
    same_leaves(open_msgpack(str(target)), as_read)


def test_a_sequence_is_the_dict_that_flax_makes_of_it(tmp_path):
    ones = np.ones(2, np.float32)
    leaf = Leaf((2,), ones.dtype)
    target = str(tmp_path / "list.msgpack")
    write_msgpack(target, {("layers", i): leaf for i in range(11)}, lambda path: ones * path[1])
    like = {"layers": [np.zeros(2, np.float32)] * 11}
    with open(target, "rb") as file:
        restored = serialization.from_bytes(like, file.read())["layers"]
    assert [layer[0] for layer in restored] == list(range(11))
    assert list(open_msgpack(target).leaves)[1] == ("layers", "1")


def test_of_a_list_in_the_file_the_names_are_numbers(tmp_path):
    path = tmp_path / "list.msgpack"
    path.write_bytes(serialization.msgpack_serialize({"a": [np.ones(2), []]}))
    leaves = open_msgpack(str(path)).leaves
    assert list(leaves) == [("a", 0), ("a", 1)]
    assert leaves["a", 1].empty == "List"


def test_a_key_is_written_as_its_numbers(tmp_path):
    key = np.asarray([1, 2], np.uint32)
    leaf = Leaf((2,), key.dtype, "key", "threefry2x32")
    target = str(tmp_path / "key.msgpack")
    write_msgpack(target, {("key",): leaf}, lambda _: key)
    assert open_msgpack(target).leaves == {("key",): Leaf((2,), key.dtype)}


def test_a_number_keeps_its_dtype(tmp_path):
    leaves = {(name,): Leaf((), np.dtype(name), "scalar") for name in ("int32", "int64", "uint64")}
    target = str(tmp_path / "numbers.msgpack")
    write_msgpack(target, leaves, lambda path: np.asarray(3, path[0]))
    reader = open_msgpack(target)
    assert [reader.read(path).dtype.name for path in leaves] == ["int32", "int64", "uint64"]
    assert [leaf.kind for leaf in reader.leaves.values()] == ["numpy", "scalar", "numpy"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([("a", 0), ("a", "0")], "a/0: another leaf has this place"),
        ([("a",), ("a", "b")], "a/b: another leaf has this place, or one in it"),
        ([("a", "b"), ("a",)], "a: another leaf has this place, or one in it"),
        ([()], "a single array is no tree"),
        ([("a", "..")], "a/..: the name '..' is refused"),
        ([("/etc",)], "the name '/etc' is refused"),
        ([("a\0",)], "is refused: it could leave a folder"),
        ([("a" * 2000,)], "a name of more than 1,024 bytes"),
        ([("a",) * 200], "more than 128 levels deep"),
        ([("__msgpack_chunked_array__",)], "one that Flax reserves"),
    ],
)
def test_a_tree_that_it_cannot_hold(paths, message, tmp_path):
    leaf = Leaf((), np.dtype("float32"))
    target = tmp_path / "target"
    with pytest.raises(InputError) as error:
        write_msgpack(str(target), dict.fromkeys(paths, leaf), lambda _: np.float32(0))
    assert message in str(error.value)
    assert not target.exists()


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "there").write_text("mine")
    with pytest.raises(FileAccessError, match="there: cannot be written: File exists"):
        write_msgpack(str(tmp_path / "there"), {}, lambda _: np.zeros(()))
    assert (tmp_path / "there").read_text() == "mine"


def array(shape=(2,), dtype="float32", data=bytes(8), ext=1):
    return msgpack.ExtType(ext, msgpack.packb((shape, dtype, data)))


def map_of(count, *parts):
    return msgpack.Packer().pack_map_header(count) + b"".join(map(msgpack.packb, parts))


def pieces(shape, *chunks, **more):
    shape = {str(i): length for i, length in enumerate(shape)}
    chunks = {str(i): chunk for i, chunk in enumerate(chunks)}
    return {"__msgpack_chunked_array__": True, "shape": shape, "chunks": chunks, **more}


GOOD = msgpack.packb({"a": {"b": array()}})
HOSTILE = {
    "more than it holds": ({"a": array((3,))}, CorruptFileError, "a: its header gives (3,) float"),
    "less than it holds": ({"a": array((1,))}, CorruptFileError, "4 bytes, but 8 follow"),
    "more in the array": (
        {"a": msgpack.ExtType(1, array().data + b"!")},
        CorruptFileError,
        "8 bytes, but 9 follow",
    ),
    "4 TB": ({"a": array((10**12,))}, InputError, "4,000,000,000,000 bytes; this machine has"),
    "beyond NumPy": ({"a": array((0, 2**63, 2**63))}, InputError, "340,282,366,920,938"),
    "negative": ({"a": array((-1, -2))}, InputError, "a: its header gives the shape [-1, -2]"),
    "a shape of text": ({"a": array(("2",))}, CorruptFileError, "its shape holds no lengths"),
    "a shape of True": ({"a": array((True, 2))}, InputError, "the shape [True, 2]"),
    "no shape": ({"a": array(2)}, CorruptFileError, "a: its header is damaged: it gives no shape"),
    "axes": ({"a": array((1,) * 65)}, CorruptFileError, "a: its header is damaged"),
    "two parts": ({"a": msgpack.ExtType(1, b"\x92\x90\x90")}, CorruptFileError, "expected 3 parts"),
    "nothing": ({"a": msgpack.ExtType(1, b"\xc0")}, CorruptFileError, "expected 3 parts"),
    "objects": ({"a": array(dtype="object")}, InputError, "a: its dtype 'object' is not one"),
    "a structure": ({"a": array(dtype="f4,f4")}, InputError, "a: its dtype 'f4,f4' is not"),
    "text for numbers": ({"a": array(data="aaaaaaaa")}, CorruptFileError, "a: its header gives"),
    "a text": ({"a": {"b": "text"}}, InputError, "a/b: is text, no array and no number"),
    "bytes": ({"a": b"bytes"}, InputError, "a: is bytes, no array"),
    "a date": ({"a": msgpack.Timestamp(1)}, InputError, "a: is of msgpack's type -1"),
    "no complex": ({"a": msgpack.ExtType(2, b"\x91\x01")}, CorruptFileError, "no complex number"),
    "a key of bytes": ({b"a": array()}, InputError, "its root: its key a bytes is no text"),
    "a key that is a number": ({"a": {1: array()}}, InputError, "a: its key 1 is no text"),
    "twice": (map_of(2, "a", 1, "a", 2), InputError, "a: is there twice"),
    "leaves the folder": ({"a": {"../..": 1}}, InputError, "a: the name '../..' is refused"),
    "absolute": ({"/etc/passwd": array()}, InputError, "the name '/etc/passwd' is refused"),
    "a long name": ({"a" * 10**6: 1}, InputError, "a name of more than 1,024 bytes"),
    "no UTF-8": (b"\x81\xa1\xff\x01", CorruptFileError, "a name in it is no UTF-8"),
    "no msgpack": (b"\x81\xa1a\xc1", CorruptFileError, "byte 3 is no msgpack"),
    "one array": (array(), InputError, "holds no tree: its root is a ext, expected a map"),
    "one number": (3, InputError, "holds no tree: its root is a number"),
    "truncated": (GOOD[:-1], CorruptFileError, f"truncated at byte {len(GOOD) - 1} of {len(GOOD)}"),
    "nothing follows": (GOOD[:3], CorruptFileError, "truncated at byte 3 of 4"),
    "more follows": (GOOD + b"\0\0", CorruptFileError, "2 bytes after the end of its tree"),
    "2**32 of them": (b"\xdf\xff\xff\xff\xff\xa1a\x01", CorruptFileError, "truncated at byte 8"),
    "100,000 deep": (b"\x81\xa1a" * 10**5, InputError, "128 deep and deeper, are refused"),
    "lists in lists": (b"\x81\xa1a" + b"\x91" * 10**5, InputError, "are refused"),
    "too many": (
        b"\x81\xa1a\xdd" + (MAX_LEAVES + 2).to_bytes(4, "big") + b"\x01" * (MAX_LEAVES + 2),
        InputError,
        "holds 262,145 leaves or more",
    ),
    "pieces missing": ({"a": pieces((4,))}, CorruptFileError, "of which some are missing or extra"),
    "too few pieces": ({"a": pieces((4,), array())}, CorruptFileError, "16 bytes, but its pieces"),
    "other pieces": (
        {"a": pieces((4,), array(), array((1,), "float64"))},
        CorruptFileError,
        "its pieces are other arrays",
    ),
    "pieces of no shape": ({"a": pieces(("x",), array())}, InputError, "a/shape/0: is text"),
    "more pieces": ({"a": pieces((2,), array(), more=1)}, CorruptFileError, "missing or extra"),
}  # fmt: skip


@pytest.mark.thorough("too many")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file(name, tmp_path):
    content, error, message = HOSTILE[name]
    path = tmp_path / "hostile.msgpack"
    path.write_bytes(content if isinstance(content, bytes) else msgpack.packb(content))
    with pytest.raises(error) as raised:
        open_msgpack(str(path))
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_byte_that_is_another_is_read_or_refused(tmp_path_factory, place, byte):
    path = tmp_path_factory.mktemp("flipped") / "flipped.msgpack"
    path.write_bytes(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
    with contextlib.suppress(InputError, CorruptFileError):
        reader = open_msgpack(str(path))
        for leaf in reader.leaves:
            reader.read(leaf)


def test_a_file_that_is_cut_after_it_was_opened(written):
    path = written({"a": np.ones(100, np.float32)})
    reader = open_msgpack(path)
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(CorruptFileError, match=r"truncated at byte 100 of .* inside of leaf a"):
        reader.read(("a",))


# Of a file of many leaves of 32 MB, what takes part in reading and writing one of them.
COPY = """
import resource, sys
import numpy as np
from shared.checkpoint.formats.flax_msgpack import open_msgpack, write_msgpack
from shared.checkpoint.stored import Leaf
leaf = Leaf((2**23,), np.dtype("float32"))
leaves = {("params", str(i)): leaf for i in range(6)}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_msgpack(sys.argv[1], leaves, lambda path: np.full(leaf.shape, int(path[1]), leaf.dtype))
reader = open_msgpack(sys.argv[1])
write_msgpack(sys.argv[1] + ".copy", reader.leaves, reader.read)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_one_leaf_is_in_memory_at_a_time(tmp_path):
    words = [sys.executable, "-c", COPY, str(tmp_path / "large.msgpack")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 1.5 * 2**25 + 2**24
