"""Checkpoints that were made to do harm: each is answered by a line, at once, and nothing is done.

What a manifest says is believed only as far as the checkpoint bears it out.
"""

import json
import os
import resource
import subprocess
import sys
import time

import msgpack
import numpy as np
import pytest
from refused import DENSE, called, converted, key_of, numbers, refusal, save
from test_convert_bad_files import header

from shared.checkpoint.integrity import manifest as manifests

# What waits for a pipe, or reads a device, takes all there are.
SECONDS = 20


def at_once(folder, source, *flags):
    """As `refusal`, and that it takes no time."""
    start = time.monotonic()
    answer = refusal(folder, source, *flags)
    assert time.monotonic() - start < SECONDS
    return answer


def orbax(folder):
    return save(folder / "ck", {**DENSE, "params/wide": numbers(1000), "key": key_of()})


def instead(path, make):
    if path.exists():
        path.unlink()
    make(path)


def sparse(path):
    """A gigabyte of nothing, which takes no room."""
    with open(path, "wb") as file:
        file.truncate(10**9)


FILES = ["_METADATA", "manifest.ocdbt", "MANIFEST.json", "array_metadatas/process_0", "d"]
IN_PLACE = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a secret": lambda path: path.symlink_to("/etc/passwd"),
    "a gigabyte": sparse,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", IN_PLACE)
@pytest.mark.parametrize("file", FILES)
def test_what_is_not_the_file_that_it_should_be(file, what, tmp_path):
    source = orbax(tmp_path)
    paths = (source / "d").iterdir() if file == "d" else [source / file]
    for path in list(paths):
        instead(path, IN_PLACE[what])
    code, line = at_once(tmp_path, source)
    assert code in (3, 4, 5)
    assert str(source) in line
    assert "root:" not in line  # of /etc/passwd


@pytest.mark.parametrize("form", ["npz", "msgpack", "safetensors"])
def test_a_file_of_a_gigabyte_of_nothing(form, tmp_path):
    first = {"npz": b"PK\3\4", "msgpack": b"\x81\xa1a", "safetensors": b"\0\0\1\0\0\0\0\0{"}
    source = tmp_path / f"ck.{form}"
    source.write_bytes(first[form])
    os.truncate(source, 10**9)
    assert at_once(tmp_path, source)[0] == 5


def nodes(length):
    """Maps of msgpack in each other, each of so many."""
    return b"\xdf" + length.to_bytes(4, "big") + b"\xa1a"


BOMBS = {
    "a map of 4,294,967,295": (nodes(2**32 - 1) + b"\x01", 5),
    "a list of 4,294,967,295": (b"\x81\xa1a\xdd\xff\xff\xff\xff", 5),
    "maps in maps": (b"\x81\xa1a" * 10**5 + b"\x01", 3),
    "lists in lists": (b"\x81\xa1a" + b"\x91" * 10**5 + b"\x01", 3),
    "an array of 4 GB": (b"\x81\xa1a\xc9\xff\xff\xff\xff\x01", 5),
    "a name of a megabyte": (msgpack.packb({"a" * 10**6: 1.0}), 3),
    "another type": (msgpack.packb({"a": msgpack.ExtType(42, b"x")}), 3),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_of_msgpack(name, tmp_path):
    content, expected = BOMBS[name]
    (tmp_path / "ck.msgpack").write_bytes(content)
    assert at_once(tmp_path, tmp_path / "ck.msgpack")[0] == expected


def leaf(*keys, of_type="jax.Array"):
    return {
        "key_metadata": [{"key": key, "key_type": 2} for key in keys],
        "value_metadata": {"value_type": of_type, "write_shape": [3]},
    }


METADATA = {
    # name: (leaves that _METADATA has more, use_ocdbt, exit code, words)
    "an absolute name": ([leaf("/etc/passwd")], False, 3, "/etc/passwd, outside of the checkpoint"),
    "a name that leads up": ([leaf("..", "x")], False, 5, "x"),
    "a name in the files above": ([leaf("../../x")], False, 3, "outside of the checkpoint; do not"),
    "a NUL": ([leaf("a\0b")], False, 3, "outside of the checkpoint"),
    "a surrogate": ([leaf("\ud800")], True, 5, r"\ud800"),
    "a name that is there": ([leaf("params.wide")], True, 3, "is stored under the same name"),
    "no name": ([leaf()], True, 5, "its array is missing"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_of_orbax(name, tmp_path):
    more, use_ocdbt, expected, words = METADATA[name]
    source = orbax(tmp_path)
    document = json.loads((source / "_METADATA").read_text())
    document["tree_metadata"] |= {str(i): each for i, each in enumerate(more)}
    document["use_ocdbt"] = use_ocdbt
    if not use_ocdbt:
        document["tree_metadata"] = {str(i): each for i, each in enumerate(more)}
    (source / "_METADATA").write_text(json.dumps(document))
    code, line = at_once(tmp_path, source)
    assert (code, words in line) == (expected, True), line


def at(document, place):
    """The container of a place in a document, and the last step to it."""
    for step in place[:-1]:
        document = document[step]
    return document, place[-1]


ORIGIN = ("extra", "origin")
LEAF, MADE = (*ORIGIN, "leaves", 0), (*ORIGIN, "made", 0)
HUGE = 2**62
MANIFESTS = {
    # name: (a place in the document, what is put there); all are signed
    "no origin": (ORIGIN, []),
    "an origin that is text": (ORIGIN, "linen"),
    "no leaves": ((*ORIGIN, "leaves"), []),
    "leaves that are none": ((*ORIGIN, "leaves"), None),
    "nothing made": ((*ORIGIN, "made"), []),
    "made of a number": ((*ORIGIN, "made"), 3),
    "a path that leads up": ((*LEAF, "path"), ["..", "..", "x"]),
    "an absolute path": ((*LEAF, "path"), ["/etc/cron.d/x"]),
    "no path": ((*LEAF, "path"), []),
    "a path twice": ((*LEAF, "path"), ["params", "dense", "bias"]),
    "a path of lists": ((*LEAF, "path"), [["a"]]),
    "a huge shape": ((*LEAF, "shape"), [HUGE]),
    "a shape past 64 bits": ((*LEAF, "shape"), [HUGE] * 4),
    "no number": ((*LEAF, "shape"), [0, 3]),
    "another shape": ((*LEAF, "shape"), [3, 2]),
    "a wider dtype": ((*LEAF, "dtype"), "float64"),
    "another dtype": ((*LEAF, "dtype"), "int8"),
    "a dtype of objects": ((*LEAF, "dtype"), "object"),
    "a dtype that is none": ((*LEAF, "dtype"), "float31"),
    "a key": ((*LEAF, "kind"), "key"),
    "empty": ((*LEAF, "kind"), "empty"),
    "a kind that is none": ((*LEAF, "kind"), "pickle"),
    "an implementation of no key": ((*LEAF, "key_impl"), "rbg"),
    "another SHA-256": ((*LEAF, "sha256"), "0" * 64),
    "of a leaf that is not there": ((*MADE, "path"), ["none"]),
    "of nothing": ((*MADE, "of"), []),
    "of no list": ((*MADE, "of"), None),
    "of a pair": ((*MADE, "of"), [[["params", "dense", "kernel"], ""]]),
    "to a leaf that is not there": ((*MADE, "of", 0, 0), ["none"]),
    "a layer that is not there": ((*MADE, "of", 0, 1), ".[99]"),
    "a huge layer": ((*MADE, "of", 0, 2), f".[{HUGE}]"),
    "an axis that is not there": ((*MADE, "of", 0, 1), ".[0, 0, 0, 0, 0, 0, 0]"),
    "a part alone": ((*MADE, "of", 0, 1), ".[0:1]"),
    "a part for all": ((*MADE, "of", 0, 2), ".[0:1]"),
    "both parts alone": ((*MADE, "of", 0, slice(1, 3)), [".[0:1]", ".[0:1]"]),
    "another layout": ((*MADE, "of", 0, 1), "..reshape(99)"),
    "a layout of the same size": (
        (*MADE, "of", 0, slice(1, 3)),
        ["..reshape(6)", "..reshape(6, 1)"],
    ),
    "turned": ((*MADE, "of", 0, 1), "..transpose(1, 0)"),
    "turned around axes that are not there": ((*MADE, "of", 0, 1), "..transpose(5, 6)"),
    "a view that is none": ((*MADE, "of", 0, 1), "zzz["),
    "a view that is a number": ((*MADE, "of", 0, 1), 7),
    "a leaf's number of 5,000 digits": ((*MADE, "of", 0, 1), f".[{'9' * 5_000}]"),
    "a layout of neither": (("layout",), "torch"),
    "a format that is a number": (("format",), 5),
    "more that is a list": (("extra",), []),
    "a leaf that is none": (("leaves", 0), None),
    "a leaf elsewhere": (("leaves", 0, "path"), ["none"]),
    "a leaf that is huge": (("leaves", 0, "shape"), [HUGE]),
    "a leaf of another kind": (("leaves", 0, "kind"), "numpy"),
    "a leaf whose key is a list": (("leaves", 0, "key_impl"), [1]),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A converted checkpoint, in a folder of its own."""
    folder = tmp_path_factory.mktemp("made")
    converted(save(folder / "ck", DENSE), target=folder / "nnx")
    return folder / "nnx"


def with_manifest(made, folder, change):
    """A copy of a checkpoint whose manifest is changed, and signed anew."""
    source = folder / "ck"
    subprocess.run(["cp", "-r", made, source], check=True)
    document = json.loads((source / "MANIFEST.json").read_text())
    del document["sha256"]
    change(document)
    (source / "MANIFEST.json").write_text(json.dumps(manifests._signed(document)))
    return source


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_lies(name, made, tmp_path):
    place, value = MANIFESTS[name]

    def change(document):
        container, last = at(document, place)
        container[last] = value

    source = with_manifest(made, tmp_path, change)
    code, line = at_once(tmp_path, source)
    assert code == 5, line
    assert line.startswith(f"{source}")
    assert "copy" in line


PATHS = {
    "up": (["..", "..", "x"], 3, "the name"),
    "absolute": (["/etc/cron.d/x"], 3, "the name"),
    "a NUL": (["a\0b"], 3, "the name"),
    "half of a character": (["a\ud800"], 3, r"a\ud800"),
    "none": ([], 3, "put it into a dict"),
    "inside of another": (["params", "dense", "bias", "x"], 3, "dense/bias"),
    "around another": (["params", "dense"], 3, "params/dense"),
}


@pytest.mark.parametrize("form", ["orbax", "safetensors", "msgpack"])
@pytest.mark.parametrize("name", PATHS)
def test_a_manifest_that_names_another_place(name, form, made, tmp_path):
    path, expected, words = PATHS[name]

    def change(document):
        origin = document["extra"]["origin"]
        for row in origin["made"]:
            for piece in row["of"]:
                if piece[0] == origin["leaves"][0]["path"]:
                    piece[0] = path
        origin["leaves"][0]["path"] = path

    source = with_manifest(made, tmp_path, change)
    code, line = at_once(tmp_path, source, f"--format={form}")
    assert (code, words in line) == (expected, True), line
    assert line.startswith(f"{source}: ")


def test_a_manifest_of_many_pieces_is_read_in_time(made, tmp_path):
    """All of a leaf, 20,000 times: it is odd, and true."""

    def change(document):
        row = document["extra"]["origin"]["made"][0]
        row["of"] *= 20_000

    source = with_manifest(made, tmp_path, change)
    start = time.monotonic()
    converted(source, target=tmp_path / "target")
    assert time.monotonic() - start < SECONDS


def test_a_manifest_that_is_not_signed(made, tmp_path):
    source = with_manifest(made, tmp_path, lambda document: None)
    text = (source / "MANIFEST.json").read_text()
    (source / "MANIFEST.json").write_text(text.replace('"nnx"', '"linen"'))
    code, line = at_once(tmp_path, source)
    assert (code, "MANIFEST.json: the manifest is damaged: has other bytes" in line) == (5, True)


def test_a_pipe_beside_the_arrays_of_a_step_is_not_waited_for(tmp_path):
    step = tmp_path / "ck" / "3"
    step.mkdir(parents=True)
    save(step / "default", DENSE)
    os.mkfifo(step / "metrics")
    code, line = at_once(tmp_path, tmp_path / "ck")
    assert (code, "metrics: is not a file; move it elsewhere" in line) == (3, True)
    (step / "metrics").unlink()
    (step / "metrics").symlink_to("/etc/passwd")
    code, line = at_once(tmp_path, tmp_path / "ck")
    assert (code, "metrics: is a symbolic link, which is not followed; copy" in line) == (3, True)


NAMES = [
    "a\nb",
    "\x1b]0;title\x07",
    "\x1b[2J",
    "[red]x[/red]",
    "[/]",
    "\r",
    "\u2028",
    "\u202e",
    "a" * 900,
]


@pytest.mark.parametrize("form", ["orbax", "msgpack"])
def test_a_name_does_nothing_to_the_terminal(form, tmp_path):
    tree = {("params", name, "kernel"): numbers(2) for name in NAMES}
    source = save(tmp_path / "ck\x1b[31m", tree, form)
    out, lines = converted(source, "--dry_run", target=tmp_path / "a\nb")
    assert all(line.isprintable() for line in [*out.splitlines(), *lines])
    assert "[red]x[~1red]/kernel" in out
    words = [f"--ckpt_path_{i}={source}" for i in (1, 2)]
    code, out, lines = called("compare", *words)
    assert code == 0
    assert all(line.isprintable() for line in [*out.splitlines(), *lines])
    # The same of an error that names a leaf.
    tree = {("params", "a\nb", "x"): numbers(2), ("batch_stats", "a\nb", "x"): numbers(2)}
    code, line = refusal(tmp_path, save(tmp_path / "two", tree))
    assert (code, r"params/a\nb/x and batch_stats/a\nb/x would both be" in line) == (3, True)


def test_no_file_outside_is_written(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    for name in ("../out", "/tmp/out", "..", "a/../../out"):
        (inside / "ck.msgpack").write_bytes(msgpack.packb({"params": {name: {"kernel": 1.0}}}))
        for form in ("orbax", "safetensors", "msgpack"):
            assert refusal(tmp_path, inside / "ck.msgpack", f"--format={form}")[0] == 3
    assert list(tmp_path.iterdir()) == [inside]


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
from shared.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.thorough
def test_a_hundred_thousand_leaves(tmp_path):
    leaves = {f"m{i}": {"kernel": float(i)} for i in range(10**5)}
    (tmp_path / "ck.msgpack").write_bytes(msgpack.packb({"params": leaves}))
    words = [f"--source_path={tmp_path}/ck.msgpack", f"--target_path={tmp_path}/nnx"]
    command = [sys.executable, "-c", LIMITED, "convert", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.thorough
def test_what_leaves_take_grows_with_their_number(tmp_path):
    """A square of it would be 16 times as much."""
    seconds = []
    for count in (1_000, 4_000):
        leaves = {f"m{i}": {"kernel": float(i)} for i in range(count)}
        source = tmp_path / f"{count}.msgpack"
        source.write_bytes(msgpack.packb({"params": leaves, "opt_state": {"0": {"mu": leaves}}}))
        start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        converted(source, "--dry_run", target=tmp_path / "target")
        seconds.append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - start)
    assert seconds[1] < 9 * seconds[0] + 1


def test_one_more_leaf_than_any_model_has(tmp_path, monkeypatch):
    from shared.checkpoint.formats import contents

    monkeypatch.setattr(contents, "MAX_LEAVES", 3)
    tree = {f"params/{name}": numbers(2) for name in "abcde"}
    for form in ("orbax", "msgpack", "safetensors"):
        source = save(tmp_path / f"ck_{form}", tree, form)
        code, line = at_once(tmp_path, source)
        assert (code, "leaves or more; the limit is 3" in line) == (3, True), line


def test_numbers_that_are_no_numbers(tmp_path):
    """A boolean of 7 is undefined in NumPy."""
    source = save(tmp_path / "ck", {"params/mask": np.array([7, 1], np.uint8)})
    header(source, "params.mask", dtype="|b1")
    code, line = at_once(tmp_path, source)
    assert (code, "leaf params/mask: is damaged: a boolean is neither true nor" in line) == (
        5,
        True,
    )
