"""Archives of NumPy as big_vision saves them: arrays of any dtype, read one by one."""

import io
import struct
import zipfile

import hypothesis.strategies as st
import numpy as np
import pytest
from checkpoint_trees import arrays, in_memory, layouts, leaf_names, same_leaves
from hypothesis import given
from numpy.lib import format as npy

from shared.checkpoint.formats import contents
from shared.checkpoint.formats.npz import open_npz
from shared.checkpoint.stored import Leaf
from shared.errors import CorruptFileError, InputError
from shared.files import npz as archives

TREE = {
    "params": {
        "Transformer": {"encoderblock_0": {"kernel": np.arange(6.0).reshape(2, 3)}},
        "cls": np.ones((1, 1, 4), np.float32),
    },
    "opt": {"0": {"count": np.asarray(3, np.int32)}},
}
FLAT = {
    "params/Transformer/encoderblock_0/kernel": TREE["params"]["Transformer"]["encoderblock_0"][
        "kernel"
    ],
    "params/cls": TREE["params"]["cls"],
    "opt/0/count": TREE["opt"]["0"]["count"],
}


def of_numpy(tree):
    return {
        path: (Leaf(leaf.shape, leaf.dtype, "numpy"), array)
        for path, (leaf, array) in in_memory(tree).items()
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_big_vision_saves_is_read(save, tmp_path):
    save(tmp_path / "vit.npz", **FLAT)
    same_leaves(open_npz(str(tmp_path / "vit.npz")), of_numpy(TREE))


# NumPy saves the others as bytes of anything.
NAMED = [name for name, dtype in contents.DTYPES.items() if dtype.isbuiltin == 1]


@given(
    st.dictionaries(
        leaf_names.filter(lambda name: name and not {"/", "."} & {*name}),
        arrays(tuple(NAMED)),
        min_size=1,
    ),
    layouts,
    st.sampled_from([np.savez, np.savez_compressed]),
)
def test_any_arrays_are_read(tmp_path_factory, leaves, layout, save):
    path = tmp_path_factory.mktemp("saved") / "x.npz"
    save(path, **{f"params/{name}": layout(array) for name, array in leaves.items()})
    same_leaves(open_npz(str(path)), of_numpy({"params": leaves}))


@pytest.mark.parametrize("piece", [1, 100, 2**20])
def test_in_the_order_of_fortran_and_in_pieces(piece, tmp_path, monkeypatch):
    monkeypatch.setattr("shared.checkpoint.formats.npz._PIECE_BYTES", piece)
    array = np.asfortranarray(np.arange(60, dtype=">f8").reshape(3, 4, 5))
    np.savez(tmp_path / "x.npz", a=array)
    expected = {("a",): (Leaf((3, 4, 5), np.dtype("f8"), "numpy"), array.astype("<f8"))}
    same_leaves(open_npz(str(tmp_path / "x.npz")), expected)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4"])
def test_a_dtype_that_numpy_forgets_is_to_be_said(name, tmp_path):
    path = str(tmp_path / "x.npz")
    array = np.arange(6).astype(contents.DTYPES[name]).reshape(2, 3)
    np.savez(path, **{"params/kernel": array})
    with pytest.raises(InputError, match=r"params/kernel: its dtype is lost: .*--dtype=bfloat16"):
        open_npz(path)
    other = "float32" if name == "bfloat16" else "bfloat16"
    with pytest.raises(InputError, match="params/kernel: its dtype is lost"):
        open_npz(path, void_as=other)
    same_leaves(open_npz(path, void_as=name), of_numpy({"params": {"kernel": array}}))


def npy_bytes(array, **changed):
    buffer = io.BytesIO()
    npy.write_array(buffer, np.asarray(array))
    content = buffer.getvalue()
    for old, new in changed.items():
        old = old.encode()
        assert old in content
        content = content.replace(old, new.encode())
    return content


def archive(*members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def header(shape, descr="<f4", body=b""):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return npy.magic(1, 0) + struct.pack("<H", len(text)) + text + body


ONES = npy_bytes(np.ones(4))
GOOD = archive(("a.npy", ONES), ("b.npy", ONES))
BOMB = archive(("a.npy", header("(4,)", body=bytes(2**24))), compression=zipfile.ZIP_DEFLATED)
# Of 10,000 bytes it says that they are 2**31.
LYING = BOMB.replace(
    struct.pack("<I", zipfile.ZipFile(io.BytesIO(BOMB)).infolist()[0].file_size),
    struct.pack("<I", 2**31),
)
HOSTILE = {
    "objects": (archive(("a.npy", header("(1,)", "|O"))), InputError, "a: contains Python objects"),
    "a pickle": (archive(("a.npy", b"\x80\x04K\x01.")), InputError, "a: not a NumPy file (first"),
    "of PyTorch": (archive(("archive/data.pkl", b"\x80\x02}q")), InputError, "looks like a pickle"),
    "4 TB": (archive(("a.npy", header("(1000000, 1000000)"))), InputError, "this machine has"),
    "negative": (archive(("a.npy", header("(-4, -4)", body=bytes(64)))), InputError, "[-4, -4]"),
    "more than it holds": (archive(("a.npy", ONES[:-1])), CorruptFileError, "a: truncated: its"),
    "less than it holds": (archive(("a.npy", ONES + b"!")), CorruptFileError, "but 33 follow"),
    "dates": (archive(("a.npy", npy_bytes(np.array(["2026"], "M8[D]")))), InputError, "datetime64"),
    "records": (archive(("a.npy", npy_bytes(np.zeros(1, "f4,f4")))), InputError, "a: its dtype"),
    "text": (archive(("a.npy", npy_bytes(np.array(["a"])))), InputError, "a: its dtype str"),
    "leaves the folder": (archive(("../../evil.npy", ONES)), InputError, "/evil.npy' is refused"),
    "absolute": (archive(("/etc/evil.npy", ONES)), InputError, "'/etc/evil.npy' is refused"),
    "a leaf in a leaf": (archive(("a.npy", ONES), ("a/b.npy", ONES)), InputError, "a/b: another"),
    "another compression": (
        archive(("a.npy", ONES), compression=zipfile.ZIP_BZIP2),
        InputError,
        "a.npy: is compressed otherwise than NumPy does",
    ),
    "a size that deflate cannot reach": (LYING, InputError, "cannot unpack to 2,147,483,648"),
    "a bomb": (BOMB, CorruptFileError, "a: its header gives (4,) float32, 16 bytes, but 16,777,"),
    "truncated": (GOOD[:-30], CorruptFileError, "truncated: its end, where a zip lists its"),
    "text called npz": (b"<!DOCTYPE html>", InputError, "not a NumPy .npz archive (first bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file(name, tmp_path):
    content, error, message = HOSTILE[name]
    path = tmp_path / "hostile.npz"
    path.write_bytes(content)
    with pytest.raises(error) as raised:
        open_npz(str(path))
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "allow_pickle" not in str(raised.value)


def test_two_of_one_name(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = archive(("a.npy", ONES), ("a.npy", ONES))
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match="a: is there twice"):
        open_npz(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bytes_that_are_others_are_found(compression, tmp_path):
    content = archive(("a.npy", npy_bytes(np.ones(1000))), compression=compression)
    checksum = zipfile.ZipFile(io.BytesIO(content)).infolist()[0].CRC
    old, new = (struct.pack("<I", number) for number in (checksum, checksum ^ 1))
    (tmp_path / "x.npz").write_bytes(content.replace(old, new))
    reader = open_npz(str(tmp_path / "x.npz"))
    with pytest.raises(CorruptFileError, match="damaged archive: Bad CRC-32"):
        reader.read(("a",))


def test_a_million_members_are_refused_before_they_are_listed(tmp_path, monkeypatch):
    one = archive(("a.npy", ONES))
    entries = one[one.index(b"PK\x01\x02") : one.index(b"PK\x05\x06")] * 10**6
    size = struct.pack("<I", len(entries))
    end = b"PK\x05\x06" + bytes(4) + b"\xff" * 4 + size + b"\xff" * 4 + bytes(2)
    end_of_64 = end.replace(size, b"\xff" * 4)
    end_64 = b"PK\x06\x06" + struct.pack(
        "<QHHIIQQQQ", 44, 45, 45, 0, 0, 10**6, 10**6, len(entries), 0
    )
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, len(entries), 1)
    path = tmp_path / "many.npz"
    monkeypatch.setattr(archives.zipfile, "ZipFile", None)
    for content in (entries + end_64 + locator + end_of_64, entries + end):
        path.write_bytes(content)
        with pytest.raises(InputError, match="too many members: the limit is 262,144"):
            open_npz(str(path))


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["params.head.bias", "step"], [("params", "head", "bias"), ("step",)]),
        (["params/head.bias", "step"], [("params", "head.bias"), ("step",)]),
        (["head", "head.bias"], [("head",), ("head.bias",)]),
        (["head.", "bias"], [("head.",), ("bias",)]),
    ],
)
def test_names_become_paths(names, paths, tmp_path):
    np.savez(tmp_path / "x.npz", **{name: np.ones(1) for name in names})
    assert list(open_npz(str(tmp_path / "x.npz")).leaves) == paths
