"""Safetensors: what its library writes is read, what is written the library reads, bit for bit."""

import json
import struct

import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors
import safetensors.flax
import safetensors.numpy
from checkpoint_trees import arrays, in_memory, layouts, leaf_names, same_leaves
from flax.traverse_util import flatten_dict
from hypothesis import given

from shared.checkpoint.convert import Options, convert
from shared.checkpoint.formats.contents import DTYPES
from shared.checkpoint.formats.safe_tensors import NAMES, open_safetensors, write_safetensors
from shared.checkpoint.stored import Leaf
from shared.errors import CorruptFileError, InputError

TREE = {
    "params": {
        "layers_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "on": np.ones(3, "?")},
        "embedding": np.arange(5).astype(DTYPES["bfloat16"]),
    },
    "step": np.asarray(3),
    "no numbers": np.zeros((0, 4), np.float16),
}


BYTE = Leaf((), DTYPES["int8"])


def write(target, tree, layout=lambda x: x):
    leaves = in_memory(tree)
    write_safetensors(
        str(target),
        {path: leaf for path, (leaf, _) in leaves.items()},
        lambda path: layout(leaves[path][1]),
    )
    return str(target)


def test_what_is_written_the_library_reads(tmp_path):
    path = write(tmp_path / "model.safetensors", TREE)
    loaded = safetensors.flax.load_file(path)
    expected = flatten_dict(TREE, sep=".")
    assert loaded.keys() == expected.keys()
    for name, array in expected.items():
        assert np.asarray(loaded[name]).tobytes() == array.astype(loaded[name].dtype).tobytes()
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "flax"}


def test_what_the_library_writes_is_read(tmp_path):
    flat = flatten_dict(TREE, sep=".")
    for save in (safetensors.numpy.save_file, safetensors.flax.save_file):
        path = str(tmp_path / save.__module__)
        save(flat, path)
        received = open_safetensors(path)
        expected = in_memory(TREE)
        same_leaves(received, {place: expected[place] for place in received.leaves})
        assert received.leaves.keys() == expected.keys()


@given(
    st.dictionaries(leaf_names, arrays(tuple(NAMES)), min_size=1, max_size=4),
    layouts,
)
def test_any_arrays_come_back(tmp_path_factory, leaves, layout):
    tree = {"a": leaves, "b": {"c": leaves}}
    target = tmp_path_factory.mktemp("written") / "tree.safetensors"
    holds = [separator for separator in "./" if any(separator in name for name in leaves)]
    if len(holds) == 2:
        with pytest.raises(InputError, match="safetensors has flat names only"):
            write(target, tree, layout)
        assert not target.exists()
        return
    separator = "/" if holds == ["."] else "."
    if holds == ["/"]:
        # The library's own reader does not ask: a name with `/` alone is split there.
        with pytest.raises(InputError, match="safetensors has flat names only"):
            write(target, tree, layout)
        return
    path = write(target, tree, layout)
    same_leaves(open_safetensors(path), in_memory(tree))
    with open(path, "rb") as file:
        loaded = dict(safetensors.deserialize(file.read()))
    for name, array in flatten_dict(tree, sep=separator).items():
        assert bytes(loaded[name]["data"]) == array.tobytes()
        assert (loaded[name]["dtype"], loaded[name]["shape"]) == (
            NAMES[array.dtype.name],
            list(array.shape),
        )


def test_arrays_are_aligned_to_their_dtype(tmp_path):
    path = write(tmp_path / "x", {"a": np.ones(3, "?"), "b": np.ones(3), "c": np.ones(3, "f4")})
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    assert length % 8 == 0
    assert [header[name]["data_offsets"][0] % 8 for name in "bc"] == [0, 0]


def test_what_is_empty_comes_back(tmp_path):
    tree = {"opt_state": {"0": {"mu": np.ones(2)}, "1": None, "2": {}}}
    path = write(tmp_path / "x", tree)
    expected = in_memory(tree)
    reader = open_safetensors(path)
    assert reader.leaves == {place: leaf for place, (leaf, _) in expected.items()}
    assert safetensors.numpy.load_file(path).keys() == {"opt_state.0.mu"}


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["params.layers.0.kernel", "step"], [("params", "layers", "0", "kernel"), ("step",)]),
        (["params/a.b/0", "step"], [("params", "a.b", "0"), ("step",)]),
    ],
)
def test_names_become_paths(names, paths, tmp_path):
    path = str(tmp_path / "x.safetensors")
    safetensors.numpy.save_file({name: np.ones(1) for name in names}, path)
    assert list(open_safetensors(path).leaves) == paths


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ({("a", 0): BYTE, ("a", "0"): BYTE}, "a/0: another leaf has this place"),
        ({("a", "c"): Leaf((), DTYPES["complex128"])}, "a/c: safetensors has no dtype complex128"),
        ({("a", "i"): Leaf((), DTYPES["int4"])}, "a/i: safetensors has no dtype int4; use --"),
        ({("a.b", "c/d"): BYTE}, "a.b/c~1d: safetensors has flat names only"),
        ({("a.b",): BYTE}, "a.b: safetensors has flat names only, in which"),
        ({("__metadata__",): BYTE}, "__metadata__: safetensors has flat"),
        ({("..",): BYTE}, "the name '..' is refused"),
    ],
)  # fmt: skip
def test_a_tree_that_it_cannot_hold(leaves, message, tmp_path):
    with pytest.raises(InputError) as error:
        write_safetensors(str(tmp_path / "x"), leaves, lambda _: np.zeros(()))
    assert message in str(error.value)
    assert not (tmp_path / "x").exists()


def file_of(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(shape=(2,), dtype="F32", begin=0, end=8):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SECOND = tensor(begin=8, end=16)
TWO = {"a": tensor(), "b": SECOND}
NOTE = {"composed_lifts.empty_leaves": '{"a": "None"}'}
GOOD = file_of(TWO, bytes(16))
# What it is: (the bytes, or what makes many of them, the error, what is said).
HOSTILE = {
    "truncated": (GOOD[:-1], CorruptFileError, f"truncated at byte {len(GOOD) - 1} of {len(GOOD)}"),
    "header cut": (GOOD[:20], CorruptFileError, f"truncated at byte 20 of {len(GOOD) - 16}"),
    "nearly empty": (GOOD[:5], CorruptFileError, "truncated at byte 5 of 8"),
    "more follows": (GOOD + b"\0", CorruptFileError, "its header is damaged: Error while"),
    "a hole": (file_of({"a": tensor(begin=8, end=16)}, bytes(16)), CorruptFileError, "damaged"),
    "an overlap": (file_of({"a": tensor(), "b": tensor()}, bytes(8)), CorruptFileError, "damaged"),
    "4 TB": (file_of({"a": tensor((10**12,))}, bytes(8)), InputError, "this machine has"),
    "negative": (file_of({"a": tensor((-2,))}, bytes(8)), InputError, "from 0"),
    "overflow": (file_of({"a": tensor((2**62, 2**62))}, bytes(8)), InputError, "this machine has"),
    "beyond NumPy": (file_of({"a": tensor((0, 2**62, 9), end=0)}), InputError, "a: its header"),
    "axes": (file_of({"a": tensor((1,) * 65, end=4)}, bytes(4)), InputError, "at most 64 lengths"),
    "four bits": (file_of({"a": tensor(dtype="F4", end=1)}, b"0"), InputError, "a: its dtype F4"),
    "no dtype": (file_of({"a": tensor(dtype="F7")}, bytes(8)), CorruptFileError, "damaged"),
    "no JSON": (file_of(b"{" * 10**5), CorruptFileError, "damaged"),
    "no header": (file_of(b"[]"), CorruptFileError, "damaged"),
    "a long header": (lambda: file_of(b" " * 2**27), InputError, "a header of 134,217,728 bytes"),
    "a header beyond the file": (file_of(b"{}", length=10**12), CorruptFileError, "of 1,000,000"),
    "leaves the folder": (file_of({"../x": tensor()}, bytes(8)), InputError, "'../x' is refused"),
    "absolute": (file_of({"/etc/x": tensor()}, bytes(8)), InputError, "'/etc/x' is refused"),
    "a leaf in a leaf": (file_of({"a": tensor(), "a.b": SECOND}, bytes(16)), InputError, "a/b: an"),
    "too many": (
        lambda: file_of({str(i): tensor((0,), end=0) for i in range(2**18 + 1)}),
        InputError,
        "holds 262,145 leaves or more",
    ),
    "empty leaves of others": (
        file_of({"__metadata__": {"composed_lifts.empty_leaves": "[1]"}}),
        CorruptFileError,
        "what it says of empty leaves is damaged",
    ),
    "empty and not": (
        file_of({"__metadata__": NOTE, "a": tensor()}, bytes(8)),
        InputError,
        "a: is there twice",
    ),
}  # fmt: skip


@pytest.mark.thorough("too many")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file(name, tmp_path):
    content, error, message = HOSTILE[name]
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content() if callable(content) else content)
    with pytest.raises(error) as raised:
        open_safetensors(str(path))
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("separator", ["/", "."])
def test_flat_names_are_joined_as_those_of_the_source(separator, tmp_path):
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    names = {separator.join(("params", "dense", name)) for name in ("kernel", "bias")}
    arrays = {name: np.ones((2, 2), np.float32) for name in names}
    safetensors.numpy.save_file(arrays, tmp_path / "source.safetensors")
    convert(tmp_path / "source.safetensors", there, Options(format="safetensors"))
    expected = {separator.join(("dense", name)) for name in ("kernel", "bias")}
    assert safetensors.numpy.load_file(there).keys() == expected
    convert(there, back, Options(format="safetensors"))
    assert safetensors.numpy.load_file(back).keys() == names
