"""A manifest finds what has changed in a checkpoint, and in itself."""

import dataclasses
import hashlib
import json
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.checkpoint.integrity import manifest as manifest_module
from shared.checkpoint.integrity.manifest import Manifest, path_for
from shared.checkpoint.integrity.verified import check, problems
from shared.checkpoint.publishing.siblings import Sibling, beside
from shared.checkpoint.stored import Leaf, nothing
from shared.errors import CorruptFileError, FileAccessError, InputError
from shared.files.digest import sha256_of

NONE = nothing()
DTYPES = [
    "float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "int4", "int8", "uint32", "bool",
    "complex64",
]  # fmt: skip


@dataclasses.dataclass
class Held:
    """A checkpoint in memory."""

    arrays: dict
    leaves: dict
    format: str = "orbax"
    path: str = "ck"

    def read(self, path):
        return self.arrays[path]


def held(**changed):
    arrays = {
        ("params", "layers", 0, "a.b/c"): np.arange(6, dtype=np.float32).reshape(2, 3),
        ("params", "bias"): np.zeros((2,), "bfloat16"),
        ("key",): np.array([1, 2], np.uint32),
    }
    leaves = {path: Leaf(array.shape, array.dtype) for path, array in arrays.items()}
    leaves[("key",)] = dataclasses.replace(leaves[("key",)], kind="key", key_impl="threefry2x32")
    leaves[("opt_state", 1)] = NONE
    return Held(arrays, leaves, **changed)


def manifest_of(reader, **more):
    sha256 = {path: sha256_of(array) for path, array in reader.arrays.items()}
    return Manifest(reader.format, "linen", reader.leaves, sha256, **more)


@pytest.fixture(params=["folder", "file"])
def place(request, tmp_path):
    path = tmp_path / "ck"
    if request.param == "folder":
        path.mkdir()
    else:
        path.write_text("")
    return str(path)


def test_what_is_saved_is_loaded(place, tmp_path):
    extra = {"origin": {"leaves": [{"path": ["ä", 0]}]}, "step": 3, "map": None, "x": 0.1}
    saved = manifest_of(held(), extra=extra)
    saved.save(place)
    loaded = Manifest.load(place)
    assert loaded == saved
    assert [type(name) for name in next(iter(loaded.leaves))] == [str, str, int, str]
    assert loaded.written_by.keys() >= {"composed_lifts", "jax", "flax", "orbax_checkpoint"}
    assert {each.name for each in tmp_path.rglob("*")} - {"ck"} in (
        {"MANIFEST.json"},
        {"ck.manifest.json"},
    )


def test_there_may_be_none(place):
    assert Manifest.load(place) is None
    assert Manifest.load(place + "/no/such") is None


def test_one_that_is_late_is_found(tmp_path):
    """The file has its name, and the process was killed before its manifest had."""
    path = tmp_path / "ck"
    path.write_text("")
    saved = manifest_of(held())
    saved.save(str(path))
    sibling = Sibling(str(path), 1, "20261127T004859.123456Z", 0)
    (tmp_path / beside("ck")).rename(beside(sibling.path))
    assert Manifest.load(str(path)) == saved


def test_none_is_replaced(place):
    manifest_of(held()).save(place)
    with pytest.raises(FileAccessError, match="File exists"):
        manifest_of(held()).save(place)


def test_none_is_written_beside_nothing(tmp_path):
    with pytest.raises(FileAccessError, match="No such file"):
        manifest_of(held()).save(str(tmp_path / "ck"))
    assert not list(tmp_path.iterdir())


def test_any_flipped_bit_of_it_is_found(tmp_path):
    path = tmp_path / "ck"
    path.write_text("")
    manifest_of(held()).save(str(path))
    at = tmp_path / beside("ck")
    whole = at.read_bytes()
    for i in range(len(whole) - 1):  # the last is the end of the line
        for bit in (1 << i % 8, 1 << (i + 3) % 8):
            at.write_bytes(whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :])
            # A flipped bit of its schema may be that of a newer one.
            with pytest.raises((CorruptFileError, InputError)):
                Manifest.load(str(path))


@pytest.mark.parametrize("length", [0, 1, 100, -2])
def test_a_truncated_one_is_refused(place, length):
    manifest_of(held()).save(place)
    with open(path_for(place), "r+b") as file:
        text = file.read()
        file.truncate(len(text[:length]))
    with pytest.raises(CorruptFileError, match="the manifest is damaged"):
        Manifest.load(place)


def write_signed(place, document):
    with open(path_for(place), "w") as file:
        json.dump(manifest_module._signed(document), file)


def document(**changed):
    return {**manifest_of(held())._document(), **changed}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"null", "holds no manifest"),
        (b"[1]", "holds no manifest"),
        (b"{}", "schema_version is 'None'"),
        (b"\xff\xfe", "can't decode"),
        (b"[" * 100_000, "recursion"),
        (b'{"schema_version": ' + b"9" * 5_000 + b"}", "integer string"),
        (b"", "Expecting value"),
    ],
)
def test_what_is_no_manifest_is_damaged(place, text, message):
    with open(path_for(place), "wb") as file:
        file.write(text)
    with pytest.raises(CorruptFileError, match=message):
        Manifest.load(place)


def test_a_newer_one_is_not_read(place):
    write_signed(place, {"schema_version": 2, "written_by": {"composed_lifts": "9.1"}})
    with pytest.raises(InputError, match=r"schema 2, written by .*9\.1.*; this tool reads up to"):
        Manifest.load(place)


def test_one_of_absurd_size_is_not_read(place, monkeypatch):
    manifest_of(held(), extra={"text": "x" * 1_000}).save(place)
    monkeypatch.setattr(manifest_module, "LARGEST_BYTES", 1_000)
    with pytest.raises(InputError, match="more than 1,000 bytes"):
        Manifest.load(place)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", "params"),
        ("path", [["a"]]),
        ("path", [True]),
        ("shape", [-1]),
        ("shape", [1.5]),
        ("shape", 3),
        ("dtype", "object"),
        ("dtype", ">f4"),
        ("dtype", "U3"),
        ("dtype", "f4,i4"),
        ("dtype", None),
        ("kind", "pickle"),
        ("sha256", "00"),
        ("sha256", None),
    ],
)
def test_a_row_that_is_none_is_refused(place, field, value):
    rows = document()["leaves"]
    write_signed(place, document(leaves=[{**rows[0], field: value}]))
    with pytest.raises(CorruptFileError, match="the manifest is damaged"):
        Manifest.load(place)


def test_a_leaf_is_named_once(place):
    rows = document()["leaves"]
    write_signed(place, document(leaves=[*rows, rows[0]]))
    with pytest.raises(CorruptFileError, match="named twice"):
        Manifest.load(place)


def test_what_was_written_has_no_problem():
    check(manifest_of(held()), held())


@pytest.mark.parametrize("format_name", ["orbax", "safetensors"])
def test_each_flipped_bit_of_a_leaf_is_found(format_name):
    manifest = manifest_of(held(format=format_name))
    for path, array in held().arrays.items():
        for i in range(8 * array.nbytes):
            reader = held(format=format_name)
            flat = reader.arrays[path].reshape(-1).view(np.uint8)
            flat[i // 8] ^= 1 << i % 8
            with pytest.raises(CorruptFileError, match="other bytes than were written") as caught:
                check(manifest, reader)
            assert str(path[-1]).replace("/", "~1") in str(caught.value)


BIAS = ("params", "bias")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda leaves: leaves.pop(BIAS), "params/bias is missing"),
        (lambda leaves: leaves.pop(("opt_state", 1)), "opt_state/1 is missing"),
        (lambda leaves: leaves.update({("more",): NONE}), "more was not written"),
        (
            lambda leaves: leaves.update({BIAS: Leaf((2,), np.dtype("float16"))}),
            "params/bias is float16[2] (array), was written as bfloat16[2] (array)",
        ),
        (
            lambda leaves: leaves.update({BIAS: Leaf((1, 2), np.dtype("bfloat16"))}),
            "params/bias is bfloat16[1, 2] (array), was written as bfloat16[2] (array)",
        ),
        (
            lambda leaves: leaves.update({("key",): Leaf((2,), np.dtype("uint32"))}),
            "key is uint32[2] (array), was written as uint32[2] (key threefry2x32)",
        ),
    ],
)
def test_a_leaf_that_has_changed_is_named(change, expected):
    reader = held()
    change(reader.leaves)
    assert list(problems(manifest_of(held()), reader)) == [expected]


def test_a_reader_that_gives_other_numbers_than_it_says_is_found():
    reader = held()
    reader.arrays[BIAS] = np.zeros((2,), np.float32)
    assert list(problems(manifest_of(held()), reader)) == [
        "params/bias is float32[2], was written as bfloat16[2] (array)"
    ]


def test_only_the_first_problems_are_shown():
    leaves = {(f"w{i}",): Leaf((1,), np.dtype("int8")) for i in range(100)}
    manifest = Manifest("orbax", "nnx", leaves, {})
    with pytest.raises(CorruptFileError, match=r"^ck: is damaged: .*; and 95 more; copy it") as e:
        check(manifest, Held({}, {}))
    assert len(str(e.value)) < 300


def test_a_format_of_names_alone_may_leave_out_the_rest():
    """Its paths are text, it has no keys and nothing that is empty."""
    reader = held(format="safetensors")
    manifest = manifest_of(reader)
    arrays = {tuple(map(str, path)): array for path, array in reader.arrays.items()}
    reader.leaves = {path: Leaf(array.shape, array.dtype) for path, array in arrays.items()}
    reader.arrays = arrays
    check(manifest, reader)


def test_two_leaves_of_one_name_are_not_taken_for_one():
    reader = Held({}, {("a", "0"): NONE, ("a", 0): NONE}, "safetensors")
    with pytest.raises(CorruptFileError, match="two leaves"):
        check(Manifest("safetensors", "nnx", reader.leaves, {}), reader)


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from(["C", "F", "strided", "big"]),
)
def test_the_hash_is_that_of_the_numbers_in_order(dtype, shape, order):
    size = math.prod(shape)
    array = np.arange(size).reshape(shape).astype(dtype)
    expected = hashlib.sha256(array.tobytes()).hexdigest()
    if order == "F":
        array = np.asfortranarray(array)
    elif order == "strided":
        array = np.repeat(array.reshape(-1), 2)[::2].reshape(shape)
    elif order == "big" and array.dtype.kind != "V":
        array = array.astype(array.dtype.newbyteorder(">"))
    assert sha256_of(array) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_an_array_that_is_in_order_no_copy_is_made(dtype, monkeypatch):
    array, seen = np.zeros((3, 2), dtype), []
    monkeypatch.setattr(
        "hashlib.sha256", lambda data: seen.append(data) or hashlib.blake2b(digest_size=32)
    )
    sha256_of(array)
    assert np.shares_memory(np.frombuffer(seen[0], np.uint8), array)


def test_the_names_of_dtypes_are_those_that_numpy_finds():
    assert np.dtype("bfloat16") == ml_dtypes.bfloat16
