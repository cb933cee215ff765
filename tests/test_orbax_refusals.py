"""What is no checkpoint of Orbax, or a damaged one, is refused in one line, before it is read."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from orbax_files import database, edit_header, edit_metadata, leaf, save_flat, write

from shared.checkpoint.formats import orbax_streams
from shared.checkpoint.formats.orbax import open_orbax
from shared.checkpoint.formats.orbax_index import Stretch, write_index
from shared.errors import CorruptFileError, FileAccessError, InputError

# Large enough not to be in the index itself.
BIG = np.random.default_rng(0).standard_normal(3_000).astype(np.float32)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    path = tmp_path_factory.mktemp("orbax") / "flat"
    save_flat(
        path, {"a": {"big": BIG}, "small": np.arange(4, dtype=np.int32), "flag": [np.ones(3, bool)]}
    )
    return path


@pytest.fixture
def copy(flat, tmp_path):
    """A checkpoint of a test's own."""
    return Path(shutil.copytree(flat, tmp_path / "copy"))


def _refused(error, match, path, *leaves):
    with pytest.raises(error, match=match) as caught:
        _read(path, leaves)
    assert "\n" not in str(caught.value)


def _read(path, leaves):
    reader = open_orbax(str(path))
    for each in leaves:
        reader.read(each)


PLACES = {
    "a file": (lambda path: path.write_text("x"), InputError, "is a file, expected"),
    "nothing": (lambda path: None, FileAccessError, "No such file"),
    "an empty directory": (lambda path: path.mkdir(), InputError, "an empty directory"),
    "another directory": (
        lambda path: (path / "3").mkdir(parents=True),
        InputError,
        "not an Orbax checkpoint: it has no _METADATA; give the path of a checkpoint",
    ),
    "a link to itself": (lambda path: path.symlink_to(path), FileAccessError, "symbolic links"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_checkpoint_is_named(tmp_path, place):
    make, error, match = PLACES[place]
    make(tmp_path / "a")
    _refused(error, match, tmp_path / "a")


@pytest.mark.parametrize(
    "name", ["a.orbax-checkpoint-tmp", "a.orbax-checkpoint-tmp-1700000000", "a.partial_save"]
)
def test_what_is_unfinished_is_named(flat, tmp_path, name):
    shutil.copytree(flat, tmp_path / name)
    match = rf"{name}: unfinished checkpoint, .*; choose one that was finished"
    _refused(InputError, match, tmp_path / name)
    # In a folder of steps it is none of them; alone it is named.
    _refused(InputError, match.replace(name, f"{tmp_path}/{name}"), tmp_path)
    shutil.copytree(flat, tmp_path / "7")
    assert open_orbax(str(tmp_path)).form == ("7",)


METADATA = {
    "truncated": (lambda text: text[:-9], "not JSON"),
    "null": (lambda text: "null", "NoneType, expected an object"),
    "a list": (lambda text: "[]", "list, expected an object"),
    "another object": (lambda text: "{}", "not the tree"),
    "another tree": (lambda text: '{"tree_metadata": {"a": 1}}', "not the tree"),
    "nested too deep": (lambda text: "[" * 10**5, "not JSON"),
}


@pytest.mark.parametrize("change", METADATA)
def test_damaged_metadata_is_named(copy, change):
    edit, match = METADATA[change]
    file = copy / "_METADATA"
    file.write_text(edit(file.read_text()))
    _refused(CorruptFileError, rf"copy/_METADATA: is damaged: {match}.*; copy", copy)


def test_metadata_that_is_no_text_is_named(copy):
    (copy / "_METADATA").write_bytes(b"\xff\xfe\x00garbage")
    _refused(CorruptFileError, "copy/_METADATA: is damaged: not JSON", copy)


def test_a_text_is_refused_by_its_name(tmp_path):
    save_flat(tmp_path / "a", {"x": np.ones(2), "inner": {"note": "hello"}}, use_ocdbt=True)
    match = "leaf inner/note is a text, expected an array, a number or nothing; save"
    _refused(InputError, match, tmp_path / "a")


def test_two_leaves_in_one_array_are_refused(tmp_path):
    """Orbax writes both, one over the other."""
    save_flat(tmp_path / "a", {"a.b": np.ones(2), "a": {"b": np.zeros(2)}})
    match = r"leaf a.b is stored under the same name, a.b, as a/b: Orbax has kept one of the two"
    _refused(InputError, match, tmp_path / "a")


@pytest.mark.parametrize("name", ["/etc", "../copy", "a/../../copy"])
def test_no_name_leads_out_of_a_checkpoint(tmp_path, name):
    """Where each array is a directory, its name is a path: of a database it is not."""
    save_flat(tmp_path / "a", {"x": np.ones(2)}, use_ocdbt=False)
    edit_metadata(tmp_path / "a", lambda tree: _rename(tree["('x',)"], name))
    _refused(InputError, rf"leaf .* would be read from {name}, outside", tmp_path / "a")


def _rename(entry, name):
    entry["key_metadata"][0]["key"] = name


@pytest.mark.parametrize("file", ["../secret", "d/../../secret", "/etc/passwd"])
def test_no_index_leads_out_of_a_checkpoint(copy, file):
    (copy.parent / "secret").write_bytes(bytes(10**5))
    (copy / "manifest.ocdbt").unlink()
    write_index(str(copy), {"small/0": Stretch(file, 0, 16)})
    _refused(CorruptFileError, "its index names a file", copy)


FILES = {
    "no manifest": (lambda copy: (copy / "manifest.ocdbt").unlink(), "manifest.ocdbt: is missing"),
    "no index": (lambda copy: shutil.rmtree(copy / "d"), "copy/d/[0-9a-f]+: is missing"),
    "no values": (lambda copy: _values(copy).unlink(), "ocdbt.process_0/d/[0-9a-f]+: is missing"),
    "short values": (
        lambda copy: os.truncate(_values(copy), 900),
        "ocdbt.process_0/d/[0-9a-f]+: truncated: holds 900 bytes, .* for a.big/0",
    ),
    "another manifest": (
        lambda copy: (copy / "manifest.ocdbt").write_bytes(b"garbage"),
        "manifest.ocdbt: is damaged: DATA_LOSS",
    ),
    "no metadata": (lambda copy: (copy / "_METADATA").unlink(), "_METADATA: is missing"),
}


def _values(copy):
    return max(copy.glob("ocdbt.process_0/d/*"), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("change", FILES)
def test_a_damaged_file_is_named(copy, change):
    edit, match = FILES[change]
    edit(copy)
    _refused(CorruptFileError, rf"{match}.*copy the checkpoint again", copy)


HEADERS = {
    "of more than any memory": ({"shape": [10**12]}, InputError, "claims 4,000,000,000,000 bytes"),
    "of no array": ({"shape": [-1]}, CorruptFileError, "its header, small/.zarray, is damaged"),
    "of text": ({"shape": "4"}, CorruptFileError, "its header, small/.zarray, is damaged"),
    "of more chunks": ({"shape": [8]}, CorruptFileError, "its chunk small/1 is missing"),
    "of large chunks": ({"chunks": [10**12]}, CorruptFileError, "is damaged"),
    "of no chunks": ({"chunks": [0]}, CorruptFileError, "is damaged"),
    "of many axes": (
        {"shape": [1] * 99, "chunks": [1] * 99},
        CorruptFileError,
        "its header, small/.zarray, is damaged",
    ),
    "that no compression explains": (
        {"shape": [10**7], "chunks": [10**7]},
        CorruptFileError,
        "its chunk 0 claims 40,000,000 bytes, stored are",
    ),
    "of more numbers": (
        {"shape": [5], "chunks": [5]},
        CorruptFileError,
        "is damaged: ",
    ),
    "of fewer numbers": (
        {"shape": [3], "chunks": [3]},
        CorruptFileError,
        "is damaged: ",
    ),
    "of records": ({"dtype": [["a", "<i4"]]}, InputError, "holds records"),
    "of texts": ({"dtype": "<U1"}, InputError, "holds <U1, expected numbers"),
    "of objects": ({"dtype": "|O"}, InputError, "holds object, expected numbers"),
    "of no separator": ({"dimension_separator": 5}, CorruptFileError, "is damaged"),
    "of nothing known": ({"dtype": "float9"}, CorruptFileError, "is damaged"),
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_lies_is_refused(copy, header):
    """TensorStore ends the process at some of these."""
    changes, error, match = HEADERS[header]
    edit_header(copy, "small", **changes)
    _refused(error, rf"leaf small: .*{match}", copy, ("small",))


@pytest.mark.parametrize("shape", [[9], [4, 1], []])
def test_metadata_of_another_shape_is_refused(copy, shape):
    change = lambda tree: tree["('small',)"]["value_metadata"].update(write_shape=shape)  # noqa: E731
    edit_metadata(copy, change)
    _refused(CorruptFileError, r"leaf small: its array is \(4,\), _METADATA has", copy)


def test_a_boolean_is_true_or_false(copy):
    edit_header(copy, "flag.0", compressor=None)
    database(copy)["flag.0/0"] = b"\0\1\2"
    _refused(CorruptFileError, "leaf flag/0: is damaged: a boolean", copy, ("flag", 0))


def test_what_the_system_refuses_is_no_damage(tmp_path, monkeypatch):
    write(tmp_path / "a", {("x",): leaf(BIG)})
    reader = open_orbax(str(tmp_path / "a"))
    refuses = OSError(errno.EIO, os.strerror(errno.EIO))

    class Refusing:
        def __init__(self, *args, **kwargs):
            raise refuses

    monkeypatch.setattr(orbax_streams, "open", Refusing, raising=False)
    with pytest.raises(FileAccessError, match="cannot be read: Input/output error"):
        reader.read(("x",))
