"""What `convert` refuses because a file is no checkpoint, or damaged: read before it is believed.

The name of each begins with its row in the table of bad inputs, see bad_input_rows.py.
"""

import io
import json
import pickle
import resource
import shutil
import warnings
import zipfile

import ml_dtypes
import msgpack
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
import tensorstore as ts
from numpy.lib import format as npy
from refused import DENSE, converted, key_of, numbers, refusal, save

from shared.checkpoint.formats.table import open_checkpoint


def npy_bytes(array):
    buffer = io.BytesIO()
    npy.write_array(buffer, np.asarray(array))
    return buffer.getvalue()


def npy_header(shape, body=bytes(64)):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return npy.magic(1, 0) + len(text).to_bytes(2, "little") + text + body


def npz(*members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")  # one name twice
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def tensors(header, body=bytes(64)):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def tensor(shape, end=64):
    return tensors({"params.a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}})


def packed(shape, dtype="float32", body=bytes(64)):
    array = msgpack.ExtType(1, msgpack.packb([shape, dtype, body]))
    return msgpack.packb({"params": {"a": array}})


A = npz(("params/a.npy", npy_bytes(numbers(4, 4))))
GOOD = {"npz": A, "safetensors": tensor([4, 4]), "msgpack": packed([4, 4])}
NO_MEMORY = "this machine has "
BOMB = npz(("params/a.npy", npy_header("(9, 9)", bytes(2**24))), compression=zipfile.ZIP_DEFLATED)
LOST = npy_bytes(np.ones(2, ml_dtypes.bfloat16).view("V2"))

FILES = {
    # name: (format, content, exit code, words)
    "5 objects": (
        "npz",
        npz(("params/a.npy", npy_bytes(np.array([None])))),
        3,
        "params/a: contains Python objects, which could run code, and is refused; save an array",
    ),
    "5 a pickle": ("msgpack", pickle.dumps({}, 4), 3, "it looks like a pickle, which could run"),
    "5 a pickle in an archive": (
        "npz",
        npz(("params/a.npy", pickle.dumps({}, 4))),
        3,
        "params/a: not a NumPy file (first bytes b'\\x80\\x04}\\x94.'); it looks like a pickle",
    ),
    "5 objects in msgpack": ("msgpack", packed([2], "object"), 3, "its dtype 'object' is not one"),
    "6 text": ("npz", b"hello", 3, "is no checkpoint (first bytes b'hello'); formats that are"),
    "6 nothing": ("safetensors", b"", 3, "is no checkpoint (first bytes b''); it is empty"),
    "6 a web page": ("msgpack", b"<!DOCTYPE html>", 3, "a web page: download the file itself"),
    "6 of Git LFS": ("npz", b"version https://git-lfs.github.com/spec/v1\n", 3, "git lfs pull"),
    "7 4 TB npz": ("npz", npz(("params/a.npy", npy_header("(1000000, 1000000)"))), 3, NO_MEMORY),
    "7 4 TB safetensors": ("safetensors", tensor([10**6, 10**6], 4 * 10**12), 3, NO_MEMORY),
    "7 4 TB msgpack": ("msgpack", packed([10**6, 10**6]), 3, NO_MEMORY),
    "7 negative npz": ("npz", npz(("params/a.npy", npy_header("(-4, 4)"))), 3, "[-4, 4]"),
    "7 negative safetensors": ("safetensors", tensor([-4, 4]), 3, "[-4, 4]"),
    "7 negative msgpack": ("msgpack", packed([-4, 4]), 3, "[-4, 4]"),
    "7 overflow npz": ("npz", npz(("params/a.npy", npy_header(f"({2**62}, 9)"))), 3, NO_MEMORY),
    "7 overflow safetensors": ("safetensors", tensor([2**62, 2**62]), 3, NO_MEMORY),
    "7 overflow msgpack": ("msgpack", packed([2**62, 2**62]), 3, NO_MEMORY),
    "7 no byte, but wide": ("msgpack", packed([0, 2**62], body=b""), 3, NO_MEMORY),
    "7 a long header": ("safetensors", (10**7).to_bytes(8, "little") + b"{", 5, "truncated at"),
    "8 a bomb": ("npz", BOMB, 5, "params/a: its header gives (9, 9) float32, 324 bytes, but"),
    "8 a name that leads up": (
        "npz",
        npz(("../../a.npy", npy_bytes(numbers(2)))),
        3,
        "the name '../../a.npy' is refused: it could leave a folder; rename it",
    ),
    "8 an absolute name": ("npz", npz(("/a.npy", npy_bytes(numbers(2)))), 3, "'/a.npy' is refused"),
    "8 one name twice": (
        "npz",
        npz(*2 * [("params/a.npy", npy_bytes(numbers(2)))]),
        3,
        "params/a: is there twice",
    ),
    "8 a leaf in a leaf": (
        "npz",
        npz(("a.npy", npy_bytes(numbers(2))), ("a/b.npy", npy_bytes(numbers(2)))),
        3,
        "a/b: another leaf has this place, or one in it",
    ),
    "9 npz cut": ("npz", A[:-30], 5, "truncated: its end, where a zip lists its members, is"),
    "9 safetensors cut": ("safetensors", tensor([4, 4])[:-7], 5, "truncated at byte 137 of 144"),
    "9 msgpack cut": ("msgpack", packed([4, 4])[:-7], 5, "truncated at byte 85 of 92"),
    "9 msgpack and more": ("msgpack", packed([4, 4]) + b"!!", 5, "2 bytes after the end of its"),
    "13 text": (
        "npz",
        npz(("a.npy", npy_bytes(["a"]))),
        3,
        "a: its dtype str32 is not one of bool",
    ),
    "13 dates": ("npz", npz(("a.npy", npy_bytes(np.array(["2026"], "M8[D]")))), 3, "datetime64[D]"),
    "13 records": ("npz", npz(("a.npy", npy_bytes(np.zeros(1, "f4,f4")))), 3, "its dtype void64"),
    "13 text in msgpack": ("msgpack", msgpack.packb({"a": "b"}), 3, "a: is text, no array and no"),
    "15 a dtype that is lost": (
        "npz",
        npz(("params/a.npy", LOST)),
        3,
        "its dtype is lost: NumPy saves bfloat16 and the like as 2 bytes of anything; say which",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file(name, tmp_path):
    form, content, expected, words = FILES[name]
    source = tmp_path / f"ck.{form}"
    source.write_bytes(content)
    code, line = refusal(tmp_path, source)
    assert (code, words in line) == (expected, True), line
    assert line.startswith(f"{source}: ")
    assert "allow_pickle" not in line


@pytest.mark.parametrize("form", GOOD)
def test_9_a_file_that_ends_anywhere_is_refused(form, tmp_path):
    source = tmp_path / f"ck.{form}"
    for length in range(0, len(GOOD[form]), 7):
        source.write_bytes(GOOD[form][:length])
        code, line = refusal(tmp_path, source)
        assert code in (3, 5)
        assert length < 9 or code == 5, line


def test_7_no_memory_is_taken_for_what_is_not_there(tmp_path):
    """Each claims 16 GB, which this machine may have."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    claims = {
        "npz": npz(("params/a.npy", npy_header(f"({2**32},)"))),
        "safetensors": tensor([2**32], 2**34),
        "msgpack": packed([2**32]),
    }
    for form, content in claims.items():
        (tmp_path / f"ck.{form}").write_bytes(content)
        assert refusal(tmp_path, tmp_path / f"ck.{form}")[0] in (3, 5)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18


def test_15_bfloat16_comes_back_where_it_is_said(tmp_path):
    array = numbers(2, 3).astype(ml_dtypes.bfloat16)
    np.savez(tmp_path / "ck.npz", **{"params/a": array, "params/b": numbers(2)})
    source = tmp_path / "ck.npz"
    code, line = refusal(tmp_path, source, "--dtype=float8_e5m2")
    assert (code, "as 2 bytes of anything" in line) == (3, True)
    converted(source, "--dtype=bfloat16", target=tmp_path / "nnx")
    received = open_checkpoint(tmp_path / "nnx").read(("a", "value"))
    assert (received.dtype, received.tobytes()) == (array.dtype, array.tobytes())


def test_15_nothing_is_cast(tmp_path):
    np.savez(tmp_path / "ck.npz", **{"params/a": numbers(2)})
    code, line = refusal(tmp_path, tmp_path / "ck.npz", "--dtype=bfloat16")
    assert (code, "--dtype=bfloat16 casts nothing; leave it out" in line) == (3, True)
    source = save(tmp_path / "ck", DENSE)
    code, line = refusal(tmp_path, source, "--dtype=bfloat16")
    assert (code, "--dtype=bfloat16 is of .npz files" in line) == (3, True)


def test_13_what_orbax_keeps_and_is_no_number(tmp_path):
    tree = {"params": {"dense": {"kernel": numbers(2, 3)}}, "note": "hello"}
    ocp.PyTreeCheckpointer().save(tmp_path / "ck", tree)
    code, line = refusal(tmp_path, tmp_path / "ck")
    assert (code, "_METADATA: leaf note is a text, expected an array" in line) == (3, True), line


def cut(path, length):
    path.write_bytes(path.read_bytes()[:length])


def data(source):
    (path,) = [path for path in (source / "d").iterdir() if path.stat().st_size > 2000]
    return path


def entry(kind="jax.Array", key_type=2):
    row = {"key_metadata": [{"key": "a", "key_type": key_type}], "value_metadata": {}}
    row["value_metadata"]["value_type"] = kind
    return json.dumps({"tree_metadata": {"('a',)": row}}).encode()


DAMAGED = {
    # name: (what is done to a folder of Orbax, words)
    "34 _METADATA cut": (lambda s: cut(s / "_METADATA", 200), "_METADATA: is damaged: not JSON"),
    "34 _METADATA empty": (lambda s: cut(s / "_METADATA", 0), "_METADATA: is damaged: not JSON"),
    "34 _METADATA null": (lambda s: (s / "_METADATA").write_bytes(b"null"), "damaged: NoneType"),
    "34 _METADATA a list": (lambda s: (s / "_METADATA").write_bytes(b"[]"), "is damaged: list"),
    "34 _METADATA no text": (lambda s: (s / "_METADATA").write_bytes(b"\xff\0"), "not JSON; copy"),
    "34 _METADATA deep": (lambda s: (s / "_METADATA").write_bytes(b"[" * 10**5), "not JSON; copy"),
    "34 _METADATA of nothing": (
        lambda s: (s / "_METADATA").write_bytes(b"{}"),
        "not the tree that",
    ),
    "34 _METADATA of no kind": (
        lambda s: (s / "_METADATA").write_bytes(entry(kind=["a"])),
        "_METADATA: is damaged: not the tree that Orbax writes; copy",
    ),
    "34 _METADATA of no sequence": (
        lambda s: (s / "_METADATA").write_bytes(entry(key_type=1)),
        "_METADATA: is damaged: not the tree that Orbax writes; copy",
    ),
    "34 a leaf that is not there": (
        lambda s: (s / "_METADATA").write_bytes(entry()),
        "leaf a: its array is missing, there is no a/.zarray; copy",
    ),
    "34 no _METADATA": (lambda s: (s / "_METADATA").unlink(), "_METADATA: is missing, and says"),
    "34 no index": (lambda s: (s / "manifest.ocdbt").unlink(), "manifest.ocdbt: is missing"),
    "34 index cut": (
        lambda s: cut(s / "manifest.ocdbt", 20),
        "manifest.ocdbt: is damaged: DATA_LOSS",
    ),
    "34 index empty": (lambda s: cut(s / "manifest.ocdbt", 0), "manifest.ocdbt: is damaged"),
    "34 no data": (lambda s: shutil.rmtree(s / "d"), "is missing"),
    "34 no file of data": (lambda s: data(s).unlink(), "is missing, and holds arrays; copy"),
    "34 data cut": (lambda s: cut(data(s), 1000), "truncated: holds 1000 bytes, expected at least"),
    "34 array_metadatas": (
        lambda s: (s / "array_metadatas" / "process_0").write_bytes(b"{"),
        "array_metadatas/process_0: is damaged: not JSON; copy",
    ),
    "29 a key of another dtype": (
        lambda s: header(s, "key", dtype="<i4"),
        "leaf key: a PRNG key of threefry2x32 that is int32 (2,), expected uint32 (..., 2); copy",
    ),
    "35 chunks that are not there": (
        lambda s: header(s, "params.wide", shape=[10**9], chunks=[1]),
        "leaf params/wide: claims 1,000,000,000 chunks, ",
    ),
    "35 more than is stored": (
        lambda s: header(s, "params.wide", dtype="<f8"),
        "leaf params/wide: its chunk 0 claims 8,000 bytes, stored are 4,000; copy",
    ),
    "35 a negative shape": (
        lambda s: header(s, "params.wide", shape=[-1], chunks=[-1]),
        "leaf params/wide: its header, params.wide/.zarray, is damaged; copy",
    ),
    "35 another rank": (
        lambda s: header(s, "params.wide", shape=[10, 100], chunks=[10, 100]),
        "leaf params/wide: its chunk params.wide/0.0 is missing; copy",
    ),
    "35 compressed, it says": (
        lambda s: header(s, "params.wide", compressor={"id": "zstd", "level": 1}),
        "leaf params/wide: ",
    ),
}


def header(source, name, **changed):
    """Changes the header of an array, which is in the database."""
    base = {"driver": "file", "path": f"{source}/"}
    store = ts.KvStore.open({"driver": "ocdbt", "base": base}).result()
    found = json.loads(store.read(f"{name}/.zarray").result().value)
    store.write(f"{name}/.zarray", json.dumps(found | changed).encode()).result()


def orbax(folder):
    wide = numbers(1000)
    return save(folder / "ck", {**DENSE, "params/wide": wide, "step": np.int32(1), "key": key_of()})


@pytest.mark.parametrize("name", DAMAGED)
def test_a_folder_of_orbax_that_is_damaged(name, tmp_path):
    damage, words = DAMAGED[name]
    source = orbax(tmp_path)
    damage(source)
    code, line = refusal(tmp_path, source)
    assert (code, words in line) == (5, True), line
    assert line.startswith(str(source))


LIES = {
    "35 4 TB": ({"shape": [10**12], "chunks": [10**12]}, "claims 4,000,000,000,000 bytes, this"),
    "35 past 64 bits": ({"shape": 2 * [2**63], "chunks": [2, 2]}, "claims 340,282,366,920,9"),
    "35 4 TB in small chunks": ({"shape": [10**12]}, "claims 4,000,000,000,000 bytes"),
    "13 objects": ({"dtype": "|O"}, "holds object, expected numbers; save the checkpoint without"),
    "13 text": ({"dtype": "<U4"}, "holds <U4, expected numbers; save"),
    "13 records": ({"dtype": [["a", "<f4"]]}, "holds records, expected numbers; save"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_cannot_be(name, tmp_path):
    changed, words = LIES[name]
    source = orbax(tmp_path)
    header(source, "params.wide", **changed)
    code, line = refusal(tmp_path, source)
    assert (code, f"{source}: leaf params/wide: {words}" in line) == (3, True), line


def test_29_what_may_be_a_key_is_not_taken_for_numbers(tmp_path):
    source = orbax(tmp_path)
    shutil.rmtree(source / "array_metadatas")
    code, line = refusal(tmp_path, source)
    assert (code, "leaf key: may be a PRNG key or its numbers: array_metadatas" in line) == (
        3,
        True,
    )


def test_23_two_leaves_that_orbax_has_kept_as_one(tmp_path):
    tree = {"params": {"a.b": numbers(2), "a": {"b": numbers(2)}}}
    ocp.PyTreeCheckpointer().save(tmp_path / "ck", tree)
    code, line = refusal(tmp_path, tmp_path / "ck")
    assert code == 3
    assert "is stored under the same name, params.a.b, as params/a" in line
    assert "Orbax has kept one of the two; save the checkpoint again with other names" in line


@pytest.mark.parametrize("form", ["orbax", "safetensors", "msgpack"])
def test_33_a_flipped_bit(form, tmp_path):
    source = save(tmp_path / "ck", {**DENSE, "params/wide": numbers(1000)})
    _, notes = converted(source, f"--format={form}", target=tmp_path / "nnx")
    assert any("has no manifest: whether its bytes are those written" in note for note in notes)
    made = data(tmp_path / "nnx") if form == "orbax" else tmp_path / "nnx"
    content = bytearray(made.read_bytes())
    content[-100] ^= 4
    made.write_bytes(content)
    code, line = refusal(tmp_path, tmp_path / "nnx")
    assert (code, "wide" in line) == (5, True), line
    assert "has other bytes than its manifest says were written; take another copy" in line


def test_40_a_manifest_of_a_newer_version(tmp_path):
    source = save(tmp_path / "ck", DENSE)
    converted(source, target=tmp_path / "nnx")
    manifest = tmp_path / "nnx" / "MANIFEST.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "schema_version": 7}))
    code, line = refusal(tmp_path, tmp_path / "nnx")
    assert code == 3
    assert f"{manifest}: of schema 7, written by " in line
    assert "this tool reads up to schema 1: install that version" in line


def test_19_a_single_array(tmp_path):
    (tmp_path / "ck.safetensors").write_bytes(safetensors.numpy.save({}))
    assert refusal(tmp_path, tmp_path / "ck.safetensors")[0] == 3
    (tmp_path / "ck.npy").write_bytes(npy_bytes(numbers(2)))
    code, line = refusal(tmp_path, tmp_path / "ck.npy")
    assert (code, "is no checkpoint" in line) == (3, True)
