"""Which format a checkpoint is in is told by what it holds, not by its name."""

import os

import flax
import numpy as np
import pytest
import safetensors.numpy
from flax import serialization
from flax.training import checkpoints

from shared.checkpoint.formats.table import FORMATS, WRITERS, format_of_file, open_checkpoint
from shared.checkpoint.stored import Leaf
from shared.errors import InputError

ONES = np.ones((2, 3), np.float32)
TREE = {"params": {"kernel": ONES}}


def written(format_name, path):
    if format_name == "safetensors":
        safetensors.numpy.save_file({"params.kernel": ONES}, path)
    elif format_name == "msgpack":
        with open(path, "wb") as file:
            file.write(serialization.to_bytes(TREE))
    else:
        with open(path, "wb") as file:
            np.savez(file, **{"params/kernel": ONES})


@pytest.mark.parametrize("format_name", ["safetensors", "msgpack", "npz"])
@pytest.mark.parametrize("name", ["checkpoint_3", "x.msgpack", "x.npz"])
def test_by_its_first_bytes(format_name, name, tmp_path):
    path = str(tmp_path / name)
    written(format_name, path)
    assert format_of_file(path) == format_name
    reader = open_checkpoint(path)
    assert reader.format == format_name
    np.testing.assert_array_equal(reader.read(("params", "kernel")), ONES)


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_is_opened(name, tmp_path):
    target = str(tmp_path / "target")
    WRITERS[name](target, {("params", "kernel"): Leaf((2, 3), ONES.dtype)}, lambda _: ONES)
    reader = open_checkpoint(target)
    assert (reader.format, list(reader.leaves)) == (name, [("params", "kernel")])
    assert set(WRITERS) <= set(FORMATS)


NO_CHECKPOINTS = {
    "a web page": (b"<!DOCTYPE html>\n<html>", "it looks like a text or a web page"),
    "JSON": (b'{"error": "Not found"}', "it looks like a text or a web page"),
    "a text": (b"Entry not found", "b'Entry not found'); formats that are read"),
    "of Git LFS": (b"version https://git-lfs.github.com/spec/v1", "get the file itself with git"),
    "nothing": (b"", "it is empty"),
    "a pickle": (b"\x80\x04\x95\x00\x00", "it looks like a pickle, which could"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "formats that are read are orbax, "),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_CHECKPOINTS)
def test_a_file_that_is_none(name, tmp_path):
    content, message = NO_CHECKPOINTS[name]
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        open_checkpoint(str(path))
    assert str(error.value).startswith(f"{path}: is no checkpoint (first bytes ")
    assert message in str(error.value)


@pytest.mark.parametrize("file", ["_METADATA", "manifest.ocdbt"])
def test_a_file_of_a_folder_is_no_checkpoint(file, tmp_path):
    target = tmp_path / "target"
    WRITERS["orbax"](str(target), {("params",): Leaf((2, 3), ONES.dtype)}, lambda _: ONES)
    with pytest.raises(InputError, match=rf"of an Orbax checkpoint: name the folder, {target}$"):
        open_checkpoint(str(target / file))


def test_one_of_several_files(tmp_path):
    path = str(tmp_path / "flax_model-00001-of-00002.msgpack")
    written("msgpack", path)
    with pytest.raises(InputError, match="is one part of a tree in several files"):
        open_checkpoint(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(InputError, match="none: does not exist; name an existing checkpoint"):
        open_checkpoint(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: is not a regular file"):
        open_checkpoint(str(tmp_path / "pipe"))
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    with pytest.raises(InputError, match="loop: is a symbolic link that leads to itself"):
        open_checkpoint(str(tmp_path / "loop"))
    written("msgpack", tmp_path / "file")
    with pytest.raises(InputError, match="is a file, of which there are no steps"):
        open_checkpoint(str(tmp_path / "file"), step=3)


@pytest.mark.parametrize("with_orbax", [False, True])
@pytest.mark.parametrize("step", [3, 11])
@pytest.mark.filterwarnings("ignore:Flax Checkpointing will soon be deprecated:DeprecationWarning")
def test_the_checkpoints_of_flax_training(step, with_orbax, tmp_path, monkeypatch):
    with flax.config.temp_flip_flag("use_orbax_checkpointing", with_orbax):
        for saved in (3, 11):
            checkpoints.save_checkpoint(tmp_path, {"step": np.asarray(saved)}, saved, keep=9)
    (tmp_path / "checkpoint_7_tmp").write_bytes(b"unfinished")
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path)))
    reader = open_checkpoint(str(tmp_path), step)
    assert reader.format == ("orbax" if with_orbax else "msgpack")
    assert reader.read(("step",)) == step
    with pytest.raises(InputError, match="holds the steps 3, 11; choose one with --step=N"):
        open_checkpoint(str(tmp_path))
    with pytest.raises(InputError, match="has no step 7; it has 3, 11"):
        open_checkpoint(str(tmp_path), 7)
