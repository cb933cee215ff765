"""Orbax checkpoints of every form are read as they were written; what is none is refused."""

import shutil
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
from orbax_files import (
    assert_leaves,
    database,
    leaf,
    save_flat,
    save_legacy,
    save_steps,
    save_v1,
)

from shared.checkpoint.formats import orbax_arrays
from shared.checkpoint.formats.orbax import open_orbax, write_orbax
from shared.checkpoint.stored import Leaf
from shared.errors import CorruptFileError, InputError


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    path = tmp_path_factory.mktemp("orbax") / "flat"
    save_flat(path)
    return path


@pytest.fixture
def copy(flat, tmp_path):
    """A checkpoint of a test's own."""
    return Path(shutil.copytree(flat, tmp_path / "copy"))


FORMS = {
    "flat": (save_flat, ()),
    "PyTreeCheckpointer": (lambda path: save_flat(path, use_ocdbt=True), ()),
    "Zarr 3": (lambda path: save_flat(path, use_zarr3=True), ()),
    "a directory for each array": (lambda path: save_flat(path, use_ocdbt=False), ()),
    "v1": (save_v1, ("state",)),
    "CheckpointManager": (lambda path: save_steps(path, [300]), ("300", "state")),
    "flax.training": (save_legacy, ("checkpoint_3",)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(tmp_path, form):
    save, directories = FORMS[form]
    save(tmp_path / "a")
    for depth in range(len(directories) + 1):
        # The root, and each directory below it down to the arrays.
        path = tmp_path.joinpath("a", *directories[:depth])
        reader = assert_leaves(path)
        assert (reader.format, reader.path, reader.form) == (
            "orbax",
            str(path),
            directories[depth:],
        )
        assert reader.location == str(tmp_path.joinpath("a", *directories))


def test_a_step_is_chosen(tmp_path):
    save_steps(tmp_path, [9, 10], tree={"x": np.ones(3)})
    reader = assert_leaves(tmp_path, {("x",): leaf(np.ones(3), "numpy")}, step=9)
    assert reader.form == ("9", "state")
    assert {"run", "_CHECKPOINT_METADATA"} <= set(reader.beside)
    assert "state" not in reader.beside
    with pytest.raises(InputError, match=r"several steps, 9, 10; choose one with --step=10"):
        open_orbax(str(tmp_path))
    with pytest.raises(InputError, match=r"has no step 8; choose one with --step from 9, 10"):
        open_orbax(str(tmp_path), 8)
    with pytest.raises(InputError, match=r"--step=9: .* is one checkpoint"):
        open_orbax(str(tmp_path / "9"), 9)


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_of_flax_training_is_chosen(tmp_path, count):
    save_legacy(tmp_path, range(3, 3 + count), {"x": np.ones(3)})
    reader = assert_leaves(tmp_path, {("x",): leaf(np.ones(3), "numpy")}, step=3)
    assert (reader.form, reader.beside) == (("checkpoint_3",), ())


def test_an_item_is_chosen(tmp_path):
    save_steps(tmp_path, [1], ("params", "state"), {"x": np.ones(3)})
    with pytest.raises(InputError, match=rf"several items, params, state; .* {tmp_path}/1/state"):
        open_orbax(str(tmp_path))
    assert_leaves(tmp_path / "1" / "params", {("x",): leaf(np.ones(3), "numpy")})


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_any_topology_is_read_on_one_device(tmp_path, processes):
    """Written on a mesh of eight devices: each chunk is of one device, in two orders of the two."""
    run = [sys.executable, str(Path(__file__).parent / "orbax_on_devices.py")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = [
        subprocess.Popen([*run, str(process), str(processes), port, str(tmp_path)])
        for process in range(processes)
    ]
    assert [process.wait(90) for process in started] == [0] * processes
    x = np.arange(8 * 16 * 6, dtype=np.float32).reshape(8, 16, 6)
    expected = {("rows",): leaf(x), ("both",): leaf(x), ("last",): leaf(x), ("all",): leaf(x)}
    assert_leaves(tmp_path / "v0", expected)
    assert_leaves(tmp_path / "v1", expected)


@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip", "raw"])
def test_what_is_compressed_in_any_way_is_read(tmp_path, codec):
    x = np.arange(4 * 5, dtype=np.float32).reshape(4, 5)
    save_flat(tmp_path / "a", {"x": x})
    if codec != "zstd":
        compressor = None if codec == "raw" else {"id": codec}
        _replace_array(tmp_path / "a", x, {"compressor": compressor, "chunks": [3, 2]})
    assert_leaves(tmp_path / "a", {("x",): leaf(x, "numpy")})


@pytest.mark.parametrize(("order", "dtype"), [("F", "<f4"), ("C", ">f4")])
def test_what_is_stored_in_another_order_is_put_right(tmp_path, order, dtype):
    x = np.arange(4 * 5, dtype=np.float32).reshape(4, 5)
    save_flat(tmp_path / "a", {"x": x})
    zstd = {"compressor": {"id": "zstd"}}
    _replace_array(tmp_path / "a", x, {"order": order, "dtype": dtype} | zstd)
    assert_leaves(tmp_path / "a", {("x",): leaf(x, "numpy")})


def _replace_array(directory, x, metadata, driver="zarr"):
    store = {"driver": "ocdbt", "base": f"file://{directory}/", "path": "x/"}
    spec = {"driver": driver, "kvstore": store, "metadata": metadata}
    ts.open(spec, create=True, delete_existing=True, dtype=x.dtype, shape=x.shape).result().write(
        x
    ).result()


@pytest.mark.parametrize("shape", [(5, 7), (1, 9, 3), (40,)])
def test_parts_are_those_of_an_array_in_order(tmp_path, monkeypatch, shape):
    """Of any size, and of arrays in chunks of any shape, with a rest at the end."""
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    save_flat(tmp_path / "a", {"x": x})
    monkeypatch.setattr(orbax_arrays, "PART", 32)
    for chunks in ([max(1, n // 2) for n in shape], [1] * len(shape), list(shape)):
        _replace_array(tmp_path / "a", x, {"chunks": chunks, "compressor": {"id": "zstd"}})
        reader = assert_leaves(tmp_path / "a", {("x",): leaf(x, "numpy")})
        assert all(part.nbytes <= 32 for part in reader.parts(("x",)))


@pytest.mark.parametrize("codec", [[], [{"name": "zstd"}]])
def test_chunks_in_several_pieces_are_read(tmp_path, codec):
    """The last piece is beyond the array, and is not there."""
    x = np.arange(6 * 3, dtype=np.float32).reshape(6, 3)
    save_flat(tmp_path / "a", {"x": x}, use_zarr3=True)
    pieces = {
        "chunk_shape": [2, 3],
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, *codec],
    }
    sharding = {"name": "sharding_indexed", "configuration": pieces}
    grid = {"name": "regular", "configuration": {"chunk_shape": [4, 3]}}
    _replace_array(tmp_path / "a", x, {"codecs": [sharding], "chunk_grid": grid}, "zarr3")
    assert_leaves(tmp_path / "a", {("x",): leaf(x, "numpy")})
    store = database(tmp_path / "a")
    for place in (-1, -5, -30):  # of the checksum, of the index
        damaged = bytearray(store["x/c/0/0"])
        damaged[place] ^= 1
        store["x/c/0/0"] = bytes(damaged)
        reader = open_orbax(str(tmp_path / "a"))
        with pytest.raises(CorruptFileError, match="leaf x: is damaged: the index of its chunk"):
            reader.read(("x",))
        damaged[place] ^= 1
        store["x/c/0/0"] = bytes(damaged)


def test_an_index_of_many_nodes_is_read(tmp_path):
    """Orbax writes such a one of very many leaves."""
    tree = {f"layer_{i}": {"kernel": np.full(3, i)} for i in range(40)}
    save_flat(tmp_path / "a", tree)
    values = database(tmp_path / "a")
    store = {
        "driver": "ocdbt",
        "base": f"file://{tmp_path}/b/",
        "config": {"max_decoded_node_bytes": 300},
    }
    several = ts.KvStore.open(store).result()
    for key in values.list().result():
        several[key] = values[key]
    shutil.copy(tmp_path / "a" / "_METADATA", tmp_path / "b")
    expected = {(name, "kernel"): leaf(tree[name]["kernel"], "numpy") for name in tree}
    assert_leaves(tmp_path / "b", expected)


def test_no_more_memory_is_taken_than_what_is_asked_for(tmp_path):
    size = 4 * 10**7
    read = lambda path: np.zeros(10**7, np.float32)  # noqa: E731
    write_orbax(str(tmp_path / "a"), {("x",): Leaf((10**7,), np.dtype(np.float32))}, read)
    tracemalloc.start()
    try:
        reader = open_orbax(str(tmp_path / "a"))
        assert tracemalloc.get_traced_memory()[1] < 10**6
        tracemalloc.reset_peak()
        for part in reader.parts(("x",)):
            assert not part.any()
            del part
        assert tracemalloc.get_traced_memory()[1] < 1.1 * orbax_arrays.PART
        reader.read(("x",))
        assert size <= tracemalloc.get_traced_memory()[1] < 1.1 * size
    finally:
        tracemalloc.stop()
