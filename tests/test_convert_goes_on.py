"""A conversion that was killed is gone on with: what is on the disk is not made again."""

import base64
import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from shared.checkpoint import convert as story
from shared.checkpoint.convert import convert
from shared.checkpoint.formats import orbax_value_files
from shared.checkpoint.formats.orbax import OrbaxReader, open_orbax, write_orbax
from shared.checkpoint.formats.orbax_values import values_of_database
from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.integrity.opened import open_with_manifest
from shared.checkpoint.integrity.read_back import read_back
from shared.checkpoint.options import Options
from shared.checkpoint.publishing import journal, publish
from shared.checkpoint.publishing.journal import SUFFIX, Entry, Journal, identity_of
from shared.checkpoint.stored import Leaf
from shared.checkpoint.tree.layers import Layout
from shared.errors import CorruptFileError, FileAccessError

F4 = np.dtype(np.float32)
SHAPES = {"kernel": (4, 500), "bias": (500,), "scale": (500,), "table": (4, 500)}
LEAVES = {
    ("params", f"layers_{i}", name): Leaf(shape, F4)
    for i in range(6)
    for name, shape in SHAPES.items()
}
ANY, STACKED = Options(), Options(layout=Layout("stacked", 0))
OPTIONS = {"any": ANY, "stacked": STACKED}


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Two or three leaves fill a file."""
    monkeypatch.setattr(orbax_value_files, "FILE", 10_000)


@pytest.fixture
def source(tmp_path):
    draws = np.random.default_rng(0)
    numbers = {path: draws.standard_normal(leaf.shape, F4) for path, leaf in LEAVES.items()}
    numbers["params", "layers_0", "kernel"][0, :3] = np.nan
    write_orbax(str(tmp_path / "source"), LEAVES, numbers.get)
    return str(tmp_path / "source")


class _Killed(BaseException):
    """What nothing catches."""


def kill_at(call, kill):
    """A call of `os.write` that does not return."""
    write, left = os.write, [call]

    def counted(file, content):
        left[0] -= 1
        if left[0] <= 0:
            kill()
        return write(file, content)

    os.write = counted
    return write


def killed(source, target, at=20, options=ANY):
    """Has a conversion end at a call of `write`, and leave what it leaves if it is killed."""

    def kill():
        raise _Killed

    take_back, publish._take_back = publish._take_back, lambda *_: None
    write = kill_at(at, kill)
    try:
        with pytest.raises(_Killed):
            convert(source, target, options)
    finally:
        publish._take_back, os.write = take_back, write


KILLED = """
import os, signal, sys
from shared.checkpoint.formats import orbax_value_files
from test_convert_goes_on import OPTIONS, convert, kill_at

orbax_value_files.FILE = 10_000
kill_at(int(sys.argv[3]), lambda: os.kill(os.getpid(), signal.SIGKILL))
convert(sys.argv[1], sys.argv[2], OPTIONS[sys.argv[4]])
"""


def really_killed(source, target, at, options):
    """The same of a process of its own."""
    folder = os.path.dirname(__file__)
    path = os.pathsep.join([folder, os.path.dirname(folder)])
    run = subprocess.run(
        [sys.executable, "-c", KILLED, source, target, str(at), options],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr


def gone_on(source, target, monkeypatch, options=ANY):
    """(the leaves of the source that are read, what is told) of a conversion."""
    read, told = [], []
    for name in ("read", "parts"):
        real = getattr(OrbaxReader, name)

        def noted(self, path, real=real):
            if self.path == source:
                read.append(path)
            return real(self, path)

        monkeypatch.setattr(OrbaxReader, name, noted)
    made = convert(source, target, options, told.append)
    monkeypatch.undo()
    return made, read, told


def bytes_of(target):
    reader, manifest = open_with_manifest(str(target))
    numbers = {path: reader.read(path).tobytes() for path in reader.leaves}
    return numbers, manifest.sha256, manifest.extra["origin"]


def assert_holds_nothing_else(target):
    """All bytes of its files are those of a value, but for the index, which is a file as well."""
    ends = {}
    for value in values_of_database(str(target)).values():
        if value.inline is None:
            ends[value.file] = max(ends.get(value.file, 0), value.offset + value.length)
    sizes = {str(file): file.stat().st_size for file in (target / "d").iterdir()}
    assert ends.items() <= sizes.items()
    assert len(sizes) == len(ends) + 1


def journal_in(folder):
    (found,) = (each for each in os.listdir(folder) if each.endswith(SUFFIX))
    return folder / found


@pytest.mark.parametrize(("name", "at"), [("any", 20), ("stacked", 4)])
def test_what_is_on_the_disk_is_not_made_again(source, tmp_path, monkeypatch, name, at):
    options, target = OPTIONS[name], tmp_path / "target"
    whole = convert(source, tmp_path / "whole", options)
    really_killed(source, str(target), at, name)
    entries = journal_in(tmp_path).read_text().splitlines()[1:]
    assert entries
    made, read, told = gone_on(source, str(target), monkeypatch, options)
    already = {tuple(path) for line in entries for path, _ in json.loads(line)["read"]}
    assert already
    assert not already & set(read)
    assert already | set(read) == set(LEAVES)
    assert told[0].endswith("gone on with")
    there = whole.nbytes - sum(LEAVES[path].nbytes for path in read)
    assert told[1] == f"{there:,} of {whole.nbytes:,} bytes are on the disk already"
    assert bytes_of(target) == bytes_of(tmp_path / "whole")
    assert_holds_nothing_else(target)
    # NaN in what was not read again is told as well.
    assert (made.sha256, made.not_finite) == (whole.sha256, whole.not_finite)
    assert sorted(os.listdir(tmp_path)) == ["source", "target", "whole"]


def test_at_any_call_it_is_killed_again_and_again(source, tmp_path, monkeypatch):
    convert(source, tmp_path / "whole")
    target = str(tmp_path / "target")
    for at in (5, 4, 3, 6, 7):
        killed(source, target, at)
    _, read, _ = gone_on(source, target, monkeypatch)
    assert len(read) < len(LEAVES)
    assert bytes_of(target) == bytes_of(tmp_path / "whole")
    assert sorted(os.listdir(tmp_path)) == ["source", "target", "whole"]


def another_source(source, left):
    path = os.path.join(source, "_CHECKPOINT_METADATA")
    found = os.stat(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


def another_identity(source, left):
    text = left.read_text()
    left.write_text(text.replace('{"identity": "', '{"identity": "0'))


def no_first_line(source, left):
    left.write_text("".join(left.read_text().splitlines(keepends=True)[1:]))


def of_another_file(source, left):
    text = left.read_text()
    left.write_text(text.replace('"d/', '"../d/'))


def of_the_source(source, left):
    file = max((os.scandir(os.path.join(source, "d"))), key=lambda each: each.stat().st_size)
    left.write_text(re.sub('"d/[0-9a-f]{32}"', f'"../source/d/{file.name}"', left.read_text()))


def without_files(source, left):
    shutil.rmtree(os.path.join(str(left).removesuffix(SUFFIX), "d"))


CHANGES = [
    another_source,
    another_identity,
    no_first_line,
    of_another_file,
    of_the_source,
    without_files,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_of_anything_else_it_begins_anew(source, tmp_path, monkeypatch, change):
    target = tmp_path / "target"
    killed(source, str(target))
    change(source, journal_in(tmp_path))
    _, read, told = gone_on(source, str(target), monkeypatch)
    assert set(read) == set(LEAVES)
    assert told[0].endswith("removed")
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def test_another_conversion_begins_anew(source, tmp_path, monkeypatch):
    killed(source, str(tmp_path / "target"))
    _, read, told = gone_on(source, str(tmp_path / "target"), monkeypatch, STACKED)
    assert set(read) == set(LEAVES)
    assert told[0].endswith("removed")


def test_a_line_that_was_not_written_whole_is_not_there(source, tmp_path, monkeypatch):
    killed(source, str(tmp_path / "target"))
    left = journal_in(tmp_path)
    text = left.read_text()
    left.write_text(text[:-30])
    _, read, _ = gone_on(source, str(tmp_path / "target"), monkeypatch)
    assert len(read) == len(LEAVES) - text.count("\n") + 2
    assert len(bytes_of(tmp_path / "target")[0]) == len(LEAVES)


def test_of_a_leaf_that_the_index_holds_no_file_is_there(source, tmp_path, monkeypatch):
    killed(source, str(tmp_path / "target"))
    left = journal_in(tmp_path)
    folder = left.with_name(left.name.removesuffix(SUFFIX))
    first, entry = map(json.loads, left.read_text().splitlines()[:2])
    for key, value in entry["values"].items():
        if isinstance(value, list):
            file, offset, length = value
            content = (folder / file).read_bytes()[offset : offset + length]
            entry["values"][key] = base64.b64encode(content).decode()
    left.write_text("".join(json.dumps(each) + "\n" for each in (first, entry)))
    shutil.rmtree(folder)
    folder.mkdir()
    _, read, _ = gone_on(source, str(tmp_path / "target"), monkeypatch)
    assert set(read) == LEAVES.keys() - {tuple(entry["read"][0][0])}


def test_bytes_that_have_changed_meanwhile_are_found(source, tmp_path):
    killed(source, str(tmp_path / "target"))
    left = journal_in(tmp_path)
    file = json.loads(left.read_text().splitlines()[1])["values"]
    (name, offset, _) = next(each for each in file.values() if isinstance(each, list))
    path = os.path.join(str(left).removesuffix(SUFFIX), name)
    with open(path, "r+b") as opened:
        opened.seek(offset)
        byte = opened.read(1)
        opened.seek(offset)
        opened.write(bytes([byte[0] ^ 1]))
    with pytest.raises(Exception, match="reads back otherwise than it was written"):
        convert(source, str(tmp_path / "target"))
    # It is removed: the next one begins anew.
    assert os.listdir(tmp_path) == ["source"]
    convert(source, str(tmp_path / "target"))


def test_a_checkpoint_that_was_to_be_replaced_is_kept(source, tmp_path, monkeypatch):
    target = tmp_path / "target"
    convert(source, target, STACKED)
    old = bytes_of(target)
    options = Options(overwrite=True)
    killed(source, str(target), options=options)
    assert bytes_of(target) == old
    _, read, _ = gone_on(source, str(target), monkeypatch, options)
    assert len(read) < len(LEAVES)
    assert len(bytes_of(target)[0]) == len(LEAVES)
    (kept,) = (each for each in os.listdir(tmp_path) if ".bak-" in each)
    assert bytes_of(tmp_path / kept) == old


def test_a_step_of_a_run_is_gone_on_with(source, tmp_path, monkeypatch):
    run = tmp_path / "run" / "300"
    run.mkdir(parents=True)
    os.rename(source, run / "state")
    (run / "_CHECKPOINT_METADATA").write_text("{}")
    killed(str(tmp_path / "run"), str(tmp_path / "target"))
    made, read, _ = gone_on(str(tmp_path / "run"), str(tmp_path / "target"), monkeypatch)
    assert len(read) < len(LEAVES)
    assert made.target == str(tmp_path / "target" / "300" / "state")
    assert len(open_orbax(str(tmp_path / "target"), 300).leaves) == len(LEAVES)


def test_room_is_needed_for_the_rest_alone(source, tmp_path, monkeypatch):
    killed(source, str(tmp_path / "target"))
    asked = []
    monkeypatch.setattr(story, "check_room", lambda target, nbytes: asked.append(nbytes))
    made = convert(source, str(tmp_path / "target"))
    assert 0 < asked[0] < made.nbytes


def test_a_small_checkpoint_has_no_journal(source, tmp_path, monkeypatch):
    monkeypatch.setattr(orbax_value_files, "FILE", 2**28)
    monkeypatch.setattr(Journal, "add", lambda *_: pytest.fail("was written"))
    convert(source, tmp_path / "target")


def test_a_journal_that_cannot_be_written_is_told(source, tmp_path, monkeypatch):
    def refuses(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Journal, "add", refuses)
    with pytest.raises(FileAccessError, match="No space left"):
        convert(source, tmp_path / "target")
    assert os.listdir(tmp_path) == ["source"]


def test_what_is_written_is_read(tmp_path):
    entry = Entry(
        {"a/.zarray": b"{}", "a/0": ("d/" + 32 * "0", 0, 4)},
        "made",
        {("params", 0): "read"},
        {("params", 0): 3},
    )
    (tmp_path / "new" / "d").mkdir(parents=True)
    (tmp_path / "new" / "d" / (32 * "0")).write_bytes(b"12345")
    (tmp_path / "new" / "manifest.ocdbt").write_bytes(b"not whole")
    (tmp_path / "new" / "array_metadatas").mkdir()
    (tmp_path / "new" / "array_metadatas" / "process_0").write_bytes(b"not whole")
    where = str(tmp_path / "new"), str(tmp_path / "new")
    Journal(*where, "this").add(("a", 1), entry)
    assert Journal(*where, "another").entries == {}
    noted = Journal(*where, "this")
    assert noted.entries == {("a", 1): entry}
    noted.clear()
    assert Journal(*where, "this").entries == {("a", 1): entry}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["d"]
    assert (tmp_path / "new" / "d" / (32 * "0")).read_bytes() == b"1234"


def test_a_journal_that_is_too_large_is_not_read(source, tmp_path, monkeypatch):
    killed(source, str(tmp_path / "target"))
    monkeypatch.setattr(journal, "LARGEST_BYTES", 100)
    told = []
    convert(source, str(tmp_path / "target"), told=told.append)
    assert told[0].endswith("removed")


def test_a_leaf_that_is_not_there_is_found_when_it_is_read_back(source, tmp_path):
    convert(source, tmp_path / "target")
    found = Manifest.load(str(tmp_path / "target"))
    more = {**found.leaves, ("lost",): Leaf((1,), F4)}
    manifest = dataclasses.replace(found, leaves=more, sha256={**found.sha256, ("lost",): "0"})
    with pytest.raises(CorruptFileError, match=r"reads back otherwise .* lost is missing"):
        read_back(manifest, str(tmp_path / "target"), source, lambda done, what: None)


def test_what_is_made_of_another_source_is_another(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = identity_of(str(tmp_path / "a"), "plan")
    assert first == identity_of(str(tmp_path / "a"), "plan")
    assert first != identity_of(str(tmp_path / "a"), "another plan")
    (tmp_path / "a" / "x").write_text("12")
    assert first != identity_of(str(tmp_path / "a"), "plan")
    assert identity_of(str(tmp_path / "a" / "x"), "plan") != first
    (tmp_path / "a" / "y").symlink_to("nothing")
    assert identity_of(str(tmp_path / "a"), "plan")
    with pytest.raises(FileAccessError, match="z: cannot be read: No such file"):
        identity_of(str(tmp_path / "z"), "plan")
