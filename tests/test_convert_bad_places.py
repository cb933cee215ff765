"""What `convert` refuses because of where the source is, or where the target would be.

The name of each begins with its row in the table of bad inputs, see bad_input_rows.py.
"""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from refused import DENSE, ERROR, converted, found, numbers, refusal, save

from shared.checkpoint.publishing.lock import locked


def steps(folder, *names):
    (folder / "ck").mkdir()
    for name in names:
        save(folder / "ck" / name, DENSE)
    return folder / "ck"


def managed(folder, *names):
    """Steps of a CheckpointManager."""
    for name in names:
        (folder / "ck" / name).mkdir(parents=True)
        save(folder / "ck" / name / "default", DENSE)
    return folder / "ck"


def renamed(folder, name):
    return save(folder / "ck", DENSE).rename(folder / name)


def file(folder, content=b"text"):
    (folder / "ck").write_bytes(content)
    return folder / "ck"


def link(folder, to):
    (folder / "ck").symlink_to(to)
    return folder / "ck"


def pipe(folder):
    os.mkfifo(folder / "ck")
    return folder / "ck"


SOURCES = {
    # name: (a function that makes it in a folder, flags, words)
    "32 unfinished": (lambda f: renamed(f, "ck.orbax-checkpoint-tmp"), [], "unfinished checkpoint"),
    "32 unfinished, numbered": (lambda f: renamed(f, "ck.orbax-checkpoint-tmp-17"), [], "unfinish"),
    "32 a part": (lambda f: renamed(f, "ck.partial_save"), [], "unfinished checkpoint"),
    "32 unfinished, of this tool": (
        lambda f: renamed(f, "ck.tmp-7-20260101T000000.000000Z-0"),
        [],
        "unfinished checkpoint, the conversion that wrote it was stopped; convert its source again",
    ),
    "32 unfinished steps alone": (lambda f: steps(f, "3.orbax-checkpoint-tmp"), [], "unfinished"),
    "32 many steps": (lambda f: managed(f, "2", "10"), [], "several steps, 2, 10; choose one with"),
    "32 many flat steps": (lambda f: steps(f, "2", "10"), [], "several steps, 2, 10; choose one"),
    "32 another step": (lambda f: managed(f, "2"), ["--step=3"], "has no step 3; choose one with"),
    "32 no steps": (
        lambda f: save(f / "ck", DENSE),
        ["--step=3"],
        "is one checkpoint, not a folder",
    ),
    "32 steps of a file": (
        lambda f: save(f / "ck", DENSE, "msgpack"),
        ["--step=3"],
        "is a file, of which there are no steps; leave out --step",
    ),
    "32 a plain file": (file, [], "is no checkpoint (first bytes b'text'); formats that are read"),
    "32 a link to itself": (
        lambda f: link(f, "ck"),
        [],
        "is a symbolic link that leads to",
    ),
    "32 a link to nothing": (lambda f: link(f, "none"), [], "does not exist; name an existing"),
    "32 nothing": (lambda f: f / "ck", ["--step=3"], "does not exist; name an existing checkpoint"),
    "32 in a file": (lambda f: file(f) / "ck", [], "a part of its path is a file; name an"),
    "32 a pipe": (pipe, [], "is not a regular file; name a checkpoint's file or folder"),
    "32 a device": (lambda f: Path("/dev/zero"), [], "/dev/zero: is not a regular file; name"),
    "32 a folder": (lambda f: steps(f), [], "an empty directory; give the path of a checkpoint"),
    "32 a folder of others": (
        lambda f: file((f / "ck").mkdir() or f / "ck").parent,
        [],
        "not an Orbax checkpoint: it has no _METADATA; give",
    ),
    "32 a folder of itself": (
        lambda f: link((f / "ck").mkdir() or f / "ck", ".").parent,
        [],
        "not an Orbax checkpoint: it has no _METADATA; give",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source(name, tmp_path):
    make, flags, words = SOURCES[name]
    source = make(tmp_path)
    code, line = refusal(tmp_path, source, *flags)
    assert (code, words in line) == (3, True), line
    assert str(source) in line


def empty(path):
    path.mkdir()


def full(path):
    path.mkdir()
    (path / "thesis.tex").write_text("important")


def a_file(path):
    path.write_text("important")


def dangling(path):
    path.symlink_to("nowhere")


def to_itself(path):
    path.symlink_to(path.name)


def a_pipe(path):
    os.mkfifo(path)


def with_a_manifest(path):
    path.with_name(f"{path.name}.manifest.json").write_text("important")


TARGETS = {
    # name: (a function that makes what is there, words, words with --overwrite)
    "39 an empty folder": (empty, "is there already; choose another", "an empty directory"),
    "39 a folder": (full, "is there already; choose another", "not an Orbax checkpoint"),
    "39 a file": (a_file, "is there already; choose another", "is no checkpoint (first bytes"),
    "39 a link to nothing": (dangling, "is a symbolic link; name", "is a symbolic link; name"),
    "39 a link to itself": (to_itself, "is a symbolic link; name", "is a symbolic link; name"),
    "39 a pipe": (a_pipe, "is there already; choose another", "is not a regular file"),
    "39 a manifest": (with_a_manifest, "without its checkpoint; move it", "without its checkpoint"),
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_is_there(name, overwrite, tmp_path):
    make, *words = TARGETS[name]
    source = save(tmp_path / "ck", DENSE)
    make(tmp_path / "target")
    start = time.monotonic()
    code, line = refusal(tmp_path, source, *["--overwrite"] * overwrite)
    assert time.monotonic() - start < 2
    assert (code, words[overwrite] in line) == (4, True), line
    assert line.startswith(str(tmp_path / "target"))


NO_PLACES = {
    "39 no such folder": ("none/target", "none is not there; make that folder"),
    "39 in a file": ("file/target", "file is no folder; make that folder"),
    "39 in a link to itself": ("loop/target", "loop is no folder; make that folder"),
    "39 a long name": ("a" * 250, "its name is of 250 bytes, the most is"),
    "39 in /proc": ("/proc/target", "cannot be written"),
}


@pytest.mark.parametrize("name", NO_PLACES)
def test_a_place_where_nothing_can_be(name, tmp_path):
    target, words = NO_PLACES[name]
    source = save(tmp_path / "ck", DENSE)
    (tmp_path / "file").write_text("important")
    (tmp_path / "loop").symlink_to("loop")
    code, line = refusal(tmp_path, source, target=tmp_path / target)
    assert (code, words in line) == (4, True), line


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_39_a_folder_that_may_not_be_written(number, tmp_path, monkeypatch):
    """As root, permissions prove nothing."""
    source = save(tmp_path / "ck", DENSE)
    opened = os.open

    def refuse(path, flags, *more, **others):
        if str(path).startswith(str(tmp_path / "target")) and flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return opened(path, flags, *more, **others)

    monkeypatch.setattr(os, "open", refuse)
    code, line = refusal(tmp_path, source)
    assert code == 4
    assert f"{os.strerror(number)}; choose a writable folder with free space" in line


def test_38_a_target_that_another_process_writes(tmp_path):
    source = save(tmp_path / "ck", DENSE)
    with locked(str(tmp_path / "target")):
        code, line = refusal(tmp_path, source)
    assert code == 4
    assert f"target: process {os.getpid()} since 2" in line
    assert "Z writes it; wait for its end, or choose another target" in line


def test_36_a_disk_that_has_not_enough_room(tmp_path, monkeypatch):
    source = save(tmp_path / "ck", {"params/wide": numbers(250)})
    free = os.statvfs(tmp_path)
    small = os.statvfs_result((1, 1, free.f_blocks, 0, 999, *free[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: small)
    code, line = refusal(tmp_path, source)
    assert (code, "target: needs 1,200 bytes, its disk has 999; make room, or" in line) == (4, True)


def test_a_target_is_removed_where_the_reading_fails_in_the_middle(tmp_path, monkeypatch):
    source = save(tmp_path / "ck.msgpack", {f"params/{i}": numbers(9) for i in range(9)}, "msgpack")
    from shared.checkpoint.formats.flax_msgpack import MsgpackReader

    read = MsgpackReader.read

    def fail(self, path):
        if path[-1] == "5":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(self, path)

    monkeypatch.setattr(MsgpackReader, "read", fail)
    code, line = refusal(tmp_path, source)
    assert (code, "Input/output error" in line) == (4, True)
    monkeypatch.undo()
    converted(source, target=tmp_path / "target")


SMALL = """
set -e
mount -t tmpfs -o size=3m tmpfs "$1"
mkdir "$1/folder"
[ "$2" = full ] || mount -o remount,ro "$1"
shift 2
exec "$@"
"""
PLANTED = "import sys; from shared.checkpoint import convert; "
WITHOUT_ROOM_CHECK = f"{PLANTED}convert.check_room = lambda *_: None; "
RUN = "from shared.cli import main; sys.exit(main(sys.argv[1:]))"


def in_a_process(script, *words, mounted=(), **options):
    command = [sys.executable, "-c", script, "convert", *words]
    if mounted:
        command = ["unshare", "-m", "sh", "-c", SMALL, "sh", *mounted, *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def mount_point(tmp_path):
    """A folder that a process of its own may mount a file system at."""
    words = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", tmp_path]
    if not shutil.which("unshare") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    (tmp_path / "mount").mkdir()
    return tmp_path / "mount"


REAL = {
    "36 too small": ("full", PLANTED, "bytes, its disk has 3,1"),
    "36 full in the middle": ("full", WITHOUT_ROOM_CHECK, "No space left on device; choose a"),
    "39 read-only": ("read-only", PLANTED, "Read-only file system; choose a writable folder"),
}


@pytest.mark.quick("36 full in the middle")
@pytest.mark.parametrize("name", REAL)
def test_a_real_disk(name, mount_point, tmp_path):
    kind, planted, words = REAL[name]
    source = save(tmp_path / "ck", {"params/wide": numbers(10**6)})
    before = found(source)
    target = mount_point / "folder" / "target"
    flags = (f"--source_path={source}", f"--target_path={target}")
    # What is left on that disk is shown by the process that has it.
    listed = "import os; code = main(sys.argv[1:]); print(os.listdir(os.path.dirname(target)))"
    script = f"{planted}target = {str(target)!r}; from shared.cli import main; {listed}"
    done = in_a_process(f"{script}; sys.exit(code)", *flags, mounted=(mount_point, kind))
    assert (done.returncode, done.stdout) == (4, "[]\n"), done.stderr
    assert done.stderr.startswith(ERROR)
    assert (done.stderr.count("\n"), words in done.stderr) == (1, True), done.stderr
    assert found(source) == before


ENDED = {
    # name: (what reads the source does, exit code, words)
    "35 a library that aborts": (
        "os.abort()",
        5,
        "is damaged: the library that reads it was ended",
    ),
    "36 out of memory": (
        "os.kill(os.getpid(), 9)",
        4,
        "the process was killed, as it is where mem",
    ),
}


@pytest.mark.quick("35 a library that aborts")
@pytest.mark.parametrize("name", ENDED)
def test_a_process_that_is_ended_leaves_nothing(name, tmp_path):
    """What reads a checkpoint is in a process of its own, and what it leaves is removed."""
    what, expected, words = ENDED[name]
    source = save(tmp_path / "ck", DENSE)
    before = found(tmp_path)
    planted = (
        f"import os, sys; from shared.checkpoint.formats.orbax_arrays import StoredArray; "
        f"StoredArray.read = StoredArray.parts = lambda *_: {what}; {RUN}"
    )
    flags = (f"--source_path={source}", f"--target_path={tmp_path / 'target'}")
    done = in_a_process(planted, *flags)
    assert (done.returncode, done.stdout) == (expected, ""), done.stderr
    assert (done.stderr.count("\n"), words in done.stderr) == (1, True), done.stderr
    assert str(source) in done.stderr
    assert found(tmp_path) == before
