"""What `convert` takes as it is, and gives back bit for bit, however odd it may be.

The name of each begins with its row in the table of bad inputs, see bad_input_rows.py.
"""

import json

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from refused import assert_same_leaves, called, converted, numbers, refusal, save
from test_convert_bad_files import header

from shared.checkpoint.formats.table import open_checkpoint

ODD = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 1], np.float32)
# A quiet and a signalling NaN that carry something.
PAYLOADS = np.array([0x7FC12345, 0x7F812345, 0xFFC00001], np.uint32).view(np.float32)


def there_and_back(source, folder, *flags):
    """What was made of a checkpoint, which comes back as it was."""
    converted(source, *flags, target=folder / "there")
    converted(folder / "there", target=folder / "back")
    assert_same_leaves(source, folder / "back")
    return open_checkpoint(folder / "there")


def test_11_numbers_that_are_not_finite_are_kept_and_counted(tmp_path):
    tree = {
        "params/dense/kernel": ODD,
        "params/dense/bias": PAYLOADS,
        "params/half": ODD.astype(ml_dtypes.bfloat16),
        "params/eight": ODD.astype(ml_dtypes.float8_e4m3fn),
        "params/complex": ODD.astype(np.complex64),
        "params/whole": numbers(3, dtype=np.int32),
    }
    source = save(tmp_path / "ck", tree)
    flags = ("--format=msgpack", f"--report={tmp_path}/report.json")
    out, _ = converted(source, *flags, target=tmp_path / "nnx")
    counts = {"dense/kernel": 3, "dense/bias": 3, "half": 3, "eight": 3, "complex": 3}
    found = json.loads((tmp_path / "report.json").read_text())["not_finite"]
    assert found == {f"params/{name}": count for name, count in counts.items()}
    assert "NaN or infinite, and kept so: " in out
    made = open_checkpoint(tmp_path / "nnx")
    for name, array in tree.items():
        assert made.read(tuple(name.split("/")[1:])).tobytes() == array.tobytes()


DTYPES = ["float64", "complex128", "int64", "uint64", "bool", "float16", "int8"]
DTYPES += ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4"]


@pytest.mark.parametrize("form", ["orbax", "msgpack"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_14_a_dtype_is_kept(dtype, form, tmp_path):
    """JAX would make float32 of float64 without x64."""
    array = (numbers(2, 3, dtype=np.float64) / 3).astype(dtype)
    source = save(tmp_path / "ck", {"params/a": array})
    made = there_and_back(source, tmp_path, f"--format={form}")
    (path,) = made.leaves
    assert made.read(path).dtype == np.dtype(dtype)


def test_14_another_dtype_is_said_when_two_are_compared(tmp_path):
    save(tmp_path / "one", {"params/a": numbers(3, dtype=np.float64)})
    save(tmp_path / "two", {"params/a": numbers(3)})
    words = [f"--ckpt_path_{i}={tmp_path}/{name}" for i, name in ((1, "one"), (2, "two"))]
    code, out, _ = called("compare", *words)
    assert (code, "float64 and float32" in out) == (1, True)


def test_15_a_dtype_that_a_format_has_not_is_named(tmp_path):
    source = save(tmp_path / "ck", {"params/a": numbers(3).astype(ml_dtypes.int4)})
    code, line = refusal(tmp_path, source, "--format=safetensors")
    assert (code, "a: safetensors has no dtype int4; use --format=orbax" in line) == (3, True)


STORED = {
    "16 big-endian": lambda x: x.astype(">f4"),
    "16 Fortran's order": np.asfortranarray,
    "16 every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "16 transposed": lambda x: np.ascontiguousarray(x.T).T,
}


@pytest.mark.parametrize("name", STORED)
def test_an_array_that_is_stored_otherwise(name, tmp_path):
    array = numbers(3, 4)
    np.savez(tmp_path / "ck.npz", **{"params/a": STORED[name](array)})
    for form in ("orbax", "safetensors", "msgpack"):
        converted(tmp_path / "ck.npz", f"--format={form}", target=tmp_path / form)
        made = open_checkpoint(tmp_path / form)
        (path,) = made.leaves
        assert made.read(path).tobytes() == array.tobytes()


def test_16_an_array_of_orbax_that_is_big_endian(tmp_path):
    array = numbers(3, 4)
    source = save(tmp_path / "ck", {"params/a": array.byteswap()})
    header(source, "params.a", dtype=">f4")
    converted(source, target=tmp_path / "nnx")
    received = open_checkpoint(tmp_path / "nnx").read(("a", "value"))
    np.testing.assert_array_equal(received, array)


@pytest.mark.parametrize("count", [9, 10, 11, 100, 101])
def test_26_layers_are_in_the_order_of_their_numbers(count, tmp_path):
    """Text sorts 10 before 2."""
    tree = {f"params/layers_{i}/kernel": numbers(2) * i for i in sorted(range(count), key=str)}
    source = save(tmp_path / "ck", tree)
    made = there_and_back(source, tmp_path, "--layer_layout=stacked")
    stack = made.read(("layers", "kernel", "value"))
    np.testing.assert_array_equal(stack, numbers(2) * np.arange(count)[:, None])


NAMES = ["value", "params", "raw_value", "0", "10", "a.b", "a/b", "ünï", "", " ", ".", "~1", "~"]
NAMES += ["a\nb", "\x1b[31mred", "[b]", "[/b]", "opt_state", "step", "\u202e", "Dense_0", "a" * 300]


@pytest.mark.parametrize("form", ["orbax", "msgpack"])
@pytest.mark.parametrize("name", NAMES)
def test_28_any_name_goes_there_and_back(name, form, tmp_path):
    tree = {("params", "dense", name): numbers(2), ("params", "dense", "kernel"): numbers(3)}
    source = save(tmp_path / "ck", tree, form)
    there_and_back(source, tmp_path)


def test_28_what_is_printed_is_printable(tmp_path):
    tree = {("params", "dense", name): numbers(2) for name in NAMES}
    source = save(tmp_path / "ck", tree | {("params", "dense", "a\nb"): ODD})
    for flags in (["--dry_run"], []):
        out, lines = converted(source, *flags, target=tmp_path / "a\n\x1b[31mb")
        assert "\x1b" not in out
        assert all(line.isprintable() for line in [*out.splitlines(), *lines])
    assert r"dense/a\nb 3" in out
    assert "dense/[b]/value" in converted(source, "--dry_run", target=tmp_path / "c")[0]


class Table(nnx.Variable):
    pass


class Tied(nnx.Module):
    """Two modules that share a variable, a variable of a kind of its own, and random state."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(5, 3, rngs=rngs)
        self.head = nnx.Linear(3, 5, use_bias=False, rngs=rngs)
        self.head.kernel = self.embed.embedding
        self.table = Table(np.arange(4, dtype=np.int32))
        self.drop = nnx.Dropout(0.5, rngs=rngs)


def test_31_what_is_shared_is_there_once_and_no_kind_is_lost(tmp_path):
    state = nnx.state(Tied(nnx.Rngs(0)))
    ocp.PyTreeCheckpointer().save(tmp_path / "ck", state)
    made = there_and_back(tmp_path / "ck", tmp_path)
    paths = {"/".join(map(str, path)) for path in made.leaves}
    assert paths == {
        "params/embed/embedding",
        "params/table",
        "nnx_aux/drop/rngs/count/value",
        "nnx_aux/drop/rngs/key/value",
    }
