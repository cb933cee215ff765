"""A checkpoint is published whole or not at all, and nothing that was there is deleted."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from shared.checkpoint.publishing import file_system, publish
from shared.checkpoint.publishing.file_system import check_room, exchange, place
from shared.checkpoint.publishing.lock import locked
from shared.checkpoint.publishing.publish import publishing
from shared.checkpoint.publishing.siblings import Sibling, beside, late_manifest
from shared.checkpoint.publishing.signals import SAME_REQUEST_SECONDS, SIGNALS
from shared.errors import FileAccessError, InputError, InterruptedRunError, UsageError

OLD, NEW = "old", "new"


def write(path, text, is_folder):
    """A checkpoint: a folder of a file, or a file with a manifest beside it."""
    path = str(path)
    if is_folder:
        os.makedirs(os.path.join(path, "inner"))
        path = os.path.join(path, "inner", "data")
    else:
        with open(beside(path), "w") as file:
            file.write(f"manifest of {text}")
    with open(path, "w") as file:
        file.write(text)


def text_at(path):
    inside = path / "inner" / "data"
    text = (inside if path.is_dir() else path).read_text()
    if not path.is_dir():
        assert (path.parent / beside(path.name)).read_text() == f"manifest of {text}"
    return text


def publish_new(target, is_folder=True, then=lambda path: None, **options):
    with publishing(str(target), **options) as new:
        write(new.path, NEW, is_folder)
        then(new.path)


def names_in(folder):
    return sorted(os.listdir(folder))


def of_checkpoint(path):
    """Those that a checkpoint has."""
    return [path.name] if path.is_dir() else [path.name, beside(path.name)]


@pytest.fixture
def no_renameat2(monkeypatch):
    """As on NFS."""

    def refuse(source, target, flags):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(file_system, "_renameat2", refuse)


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_written_becomes_the_target(tmp_path, is_folder):
    publish_new(tmp_path / "a", is_folder)
    assert text_at(tmp_path / "a") == NEW
    assert names_in(tmp_path) == of_checkpoint(tmp_path / "a")


@pytest.mark.parametrize("is_folder", [True, False])
def test_it_does_where_the_system_cannot_refuse_to_replace(tmp_path, is_folder, no_renameat2):
    publish_new(tmp_path / "a", is_folder)
    assert text_at(tmp_path / "a") == NEW
    assert names_in(tmp_path) == of_checkpoint(tmp_path / "a")


@pytest.mark.parametrize("is_folder", [True, False])
def test_of_two_names_one_is_left(tmp_path, is_folder, no_renameat2):
    write(tmp_path / "new", NEW, is_folder)
    place(str(tmp_path / "new"), str(tmp_path / "a"))
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "a").exists()


def test_nothing_is_replaced_where_the_system_cannot_exchange(tmp_path, no_renameat2):
    write(tmp_path / "a", OLD, True)
    with pytest.raises(FileAccessError, match="cannot exchange two names"):
        publish_new(tmp_path / "a", check_replaced=str)
    assert text_at(tmp_path / "a") == OLD
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("was_folder", [True, False])
@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_replaced_is_kept(tmp_path, is_folder, was_folder):
    target, told = tmp_path / "a", []
    write(target, OLD, was_folder)
    publish_new(target, is_folder, check_replaced=str, told=told.append)
    assert text_at(target) == NEW
    (backup,) = tmp_path.glob("a.bak-*Z")
    assert text_at(backup) == OLD
    assert told == [f"what was at {target} is kept as {backup}"]
    assert names_in(tmp_path) == sorted(of_checkpoint(target) + of_checkpoint(backup))


def dangling_link(path):
    path.symlink_to("nowhere")


def link(path):
    (path.parent / "other").mkdir()
    path.symlink_to("other")


def empty_folder(path):
    path.mkdir()


def some_file(path):
    path.write_text("important")


@pytest.mark.parametrize("make", [dangling_link, link, empty_folder, some_file])
@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_is_replaced_where_the_system_could_not_refuse(
    tmp_path, is_folder, make, no_renameat2
):
    write(tmp_path / "new", NEW, is_folder)
    make(tmp_path / "a")
    before = names_in(tmp_path)
    with pytest.raises(OSError, match="File exists"):
        place(str(tmp_path / "new"), str(tmp_path / "a"))
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("make", [dangling_link, link, empty_folder, some_file])
def test_what_is_there_stays(tmp_path, make):
    target = tmp_path / "a"
    make(target)
    before = names_in(tmp_path)
    with pytest.raises(FileAccessError, match=r"is there already|is a symbolic link"):
        publish_new(target)
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("make", [dangling_link, link])
def test_a_link_is_never_replaced(tmp_path, make):
    make(tmp_path / "a")
    before = names_in(tmp_path)
    with pytest.raises(FileAccessError, match="is a symbolic link"):
        publish_new(tmp_path / "a", check_replaced=str)
    assert names_in(tmp_path) == before
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("make", [empty_folder, some_file])
def test_only_a_checkpoint_is_replaced(tmp_path, make):
    target = tmp_path / "a"
    make(target)
    before = names_in(tmp_path)

    def check(path):
        raise InputError(f"{path}: is no checkpoint")

    with pytest.raises(FileAccessError, match=r"replaces only a checkpoint: .*no checkpoint"):
        publish_new(target, check_replaced=check)
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_comes_to_the_target_meanwhile_stays(tmp_path, is_folder):
    target = tmp_path / "a"
    with pytest.raises(FileAccessError, match="File exists"):
        publish_new(target, is_folder, lambda path: some_file(target))
    assert target.read_text() == "important"
    assert names_in(tmp_path) == ["a"]


def test_a_target_that_is_changed_meanwhile_is_not_replaced(tmp_path):
    target, told = tmp_path / "a", []
    write(target, OLD, True)

    def change(path):
        target.rename(tmp_path / "b")
        some_file(target)

    with pytest.raises(FileAccessError, match="has been changed meanwhile"):
        publish_new(target, then=change, check_replaced=str, told=told.append)
    # It is left, for by its inode it could be the one that was there.
    assert len(names_in(tmp_path)) == 3
    assert text_at(next(tmp_path.glob("a.tmp-*"))) == NEW
    assert "left as it is" in told[0]


def test_a_manifest_without_its_checkpoint_stays(tmp_path):
    some_file(tmp_path / beside("a"))
    with pytest.raises(FileAccessError, match="without its checkpoint"):
        publish_new(tmp_path / "a", is_folder=False)
    assert names_in(tmp_path) == [beside("a")]


@pytest.mark.parametrize(
    ("target", "source"),
    [("a", "a"), ("a/b", "a"), ("b", "b/a"), ("link/b", "a"), ("a", "link")],
)
def test_source_and_target_are_apart(tmp_path, target, source):
    for name in ("a", "b"):
        write(tmp_path / name, OLD, True)
    (tmp_path / "b" / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    before = names_in(tmp_path)
    with pytest.raises(UsageError, match="are one, or one is within the other"):
        publish_new(tmp_path / target, source=str(tmp_path / source), check_replaced=str)
    assert names_in(tmp_path) == before


def test_the_folder_of_a_target_is_the_one_that_it_was(tmp_path):
    """A link on the way, as `latest`, may lead elsewhere when the target is complete."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("old")

    def turn(path):
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("new")

    publish_new(tmp_path / "link" / "a", then=turn)
    assert text_at(tmp_path / "old" / "a") == NEW
    assert names_in(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("target", "message"),
    [("no/a", "is not there"), ("file/a", "is no folder"), ("a" * 200, "choose a shorter one")],
)
def test_where_nothing_can_be_written(tmp_path, target, message):
    some_file(tmp_path / "file")
    with pytest.raises(FileAccessError, match=message):
        publish_new(tmp_path / target)
    assert names_in(tmp_path) == ["file"]


def fail(path):
    # Orbax has such a one beside its target.
    write(path + ".orbax-checkpoint-tmp", NEW, True)
    raise InputError("mine")


@pytest.mark.parametrize("is_folder", [True, False])
@pytest.mark.parametrize("was_there", [True, False])
def test_after_an_error_all_is_as_it_was(tmp_path, is_folder, was_there):
    target = tmp_path / "a"
    if was_there:
        write(target, OLD, is_folder)
    before = names_in(tmp_path)
    with pytest.raises(InputError, match="mine"):
        publish_new(target, is_folder, fail, check_replaced=str)
    assert names_in(tmp_path) == before
    assert not was_there or text_at(target) == OLD


def test_an_error_is_not_hidden_by_one_of_the_removal(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    told = []
    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(InputError, match="mine"):
        publish_new(tmp_path / "a", then=fail, told=told.append)
    assert len(told) == 1
    assert told[0].endswith(": cannot be removed: Permission denied")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_nothing(tmp_path, number):
    # A shell lets what it runs in the background ignore Ctrl-C.
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(InterruptedRunError) as caught:
            publish_new(tmp_path / "a", then=lambda path: os.kill(os.getpid(), number))
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert caught.value.exit_code == 128 + number
    assert names_in(tmp_path) == []


def test_a_second_signal_at_once_is_the_same_request(tmp_path, monkeypatch):
    came = []
    monkeypatch.setattr(
        "time.sleep", lambda seconds: came.append(seconds) or os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(InterruptedRunError):
        publish_new(tmp_path / "a", then=lambda path: os.kill(os.getpid(), signal.SIGTERM))
    assert came == [SAME_REQUEST_SECONDS]
    assert names_in(tmp_path) == []


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        publish_new(tmp_path / "a", then=lambda path: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert text_at(tmp_path / "a") == NEW


def test_a_signal_that_a_library_swallows_is_not_lost(tmp_path):
    def swallow(path):
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        publish_new(tmp_path / "a", then=swallow)
    assert names_in(tmp_path) == []


def test_a_signal_waits_while_the_names_change(tmp_path, monkeypatch):
    came = []
    monkeypatch.setattr(
        publish, "place", lambda *names: (os.kill(os.getpid(), signal.SIGTERM), place(*names))
    )
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(text_at(tmp_path / "a")))
    try:
        publish_new(tmp_path / "a")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [NEW]


def test_a_thread_publishes(tmp_path):
    thread = threading.Thread(target=publish_new, args=(tmp_path / "a",))
    thread.start()
    thread.join()
    assert text_at(tmp_path / "a") == NEW


HOLDER = """
import os, sys
from shared.checkpoint.publishing.publish import publishing
with publishing(sys.argv[1]) as new:
    os.mkdir(new.path)
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


def test_the_second_one_is_told_who_writes(tmp_path):
    target = tmp_path / "a"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        number = holder.stdout.readline().strip()
        for options in ({}, {"check_replaced": str}):
            with pytest.raises(FileAccessError, match=rf"process {number} since 20\S+Z writes it"):
                publish_new(target, **options)
        holder.kill()
    told = []
    publish_new(target, told=told.append)
    assert text_at(target) == NEW
    assert names_in(tmp_path) == ["a"]
    assert len(told) == 1
    assert told[0].endswith(f"left by process {number}: removed")


def test_what_has_its_name_is_not_gone_on_with(tmp_path):
    """It was killed after it exchanged the names: what is left beside is the old one."""
    target = tmp_path / "a"
    publish_new(target)
    left = Sibling.of(str(target))
    shutil.copytree(target, left.path)
    exchange(left.path, str(target))
    with publishing(str(target), None, str, is_gone_on_with=lambda path: True) as new:
        assert not os.path.lexists(new.path)
        assert os.path.isdir(left.backup)
        os.mkdir(new.path)


def test_of_two_that_were_killed_one_is_gone_on_with(tmp_path):
    target = str(tmp_path / "a")
    for stamp in ("20260101T000000.000000Z", "20260102T000000.000000Z"):
        left = Sibling(target, 1, stamp, 0)
        os.mkdir(left.path)
        some_file(tmp_path / f"{os.path.basename(left.path)}.journal")
    with publishing(target, is_gone_on_with=lambda path: True) as new:
        assert os.path.isfile(f"{new.path}.journal")
    assert names_in(tmp_path) == ["a"]


def test_a_file_by_the_name_of_the_lock_stays(tmp_path):
    some_file(tmp_path / "a.lock")
    with pytest.raises(FileAccessError, match="no lock of composed-lifts"):
        publish_new(tmp_path / "a")
    assert (tmp_path / "a.lock").read_text() == "important"


def test_a_pipe_by_the_name_of_the_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.lock")
    with pytest.raises(FileAccessError, match="no lock of composed-lifts"):
        publish_new(tmp_path / "a")
    assert names_in(tmp_path) == ["a.lock"]


def test_a_lock_that_its_holder_removes_is_not_taken(tmp_path, monkeypatch):
    """Who opened it before, and locks it after that, would be alone with a file of no name."""
    path, target = tmp_path / "a.lock", str(tmp_path / "a")
    real = fcntl.flock

    def removed_before(descriptor, how):
        monkeypatch.undo()
        path.unlink()
        real(descriptor, how)

    monkeypatch.setattr("fcntl.flock", removed_before)
    second = locked(target)
    with locked(target), pytest.raises(FileAccessError, match=f"process {os.getpid()} since"):
        second.__enter__()
    assert names_in(tmp_path) == []


def stopped_after(step, target, is_folder):
    """What a process leaves that is killed in the midst of an exchange, after some steps."""
    target = str(target)
    sibling = Sibling(target, 1, Sibling.of("").stamp, os.lstat(target).st_ino)
    write(sibling.path, NEW, is_folder)
    steps = [
        *([] if is_folder else [lambda: os.rename(beside(target), beside(sibling.backup))]),
        lambda: file_system.exchange(sibling.path, target),
        lambda: os.rename(sibling.path, sibling.backup),
        *([] if is_folder else [lambda: os.rename(beside(sibling.path), beside(target))]),
    ]
    for each in steps[:step]:
        each()
    return sibling


@pytest.mark.parametrize(
    ("is_folder", "step"), [(True, 0), (True, 1), (True, 2), *((False, step) for step in range(5))]
)
def test_what_was_begun_is_ended_wherever_it_was_killed(tmp_path, is_folder, step):
    target = tmp_path / "a"
    write(target, OLD, is_folder)
    sibling = stopped_after(step, target, is_folder)
    is_new = step > (0 if is_folder else 1)
    if not is_folder:
        expected = f"manifest of {NEW if is_new else OLD}"
        with open(late_manifest(str(target)) or beside(str(target))) as file:
            assert file.read() == expected
    with pytest.raises(FileAccessError, match="is there already"):
        publish_new(target, is_folder)
    assert text_at(target) == (NEW if is_new else OLD)
    backup = tmp_path / os.path.basename(sibling.backup)
    kept = of_checkpoint(backup) if is_new else []
    assert names_in(tmp_path) == sorted(of_checkpoint(target) + kept)
    assert not is_new or text_at(backup) == OLD


def test_a_file_that_was_linked_to_its_name_is_complete(tmp_path):
    """Where it cannot be renamed without replacing, it has two names until one is removed."""
    target = tmp_path / "a"
    sibling = Sibling.of(str(target))
    write(sibling.path, NEW, is_folder=False)
    os.link(sibling.path, target)
    with pytest.raises(FileAccessError, match="is there already"):
        publish_new(target)
    assert text_at(target) == NEW
    assert names_in(tmp_path) == of_checkpoint(target)


def test_a_manifest_that_is_late_is_put_beside_its_checkpoint(tmp_path):
    target = tmp_path / "a"
    sibling = Sibling.of(str(target))
    write(sibling.path, NEW, is_folder=False)
    os.rename(sibling.path, target)
    with pytest.raises(FileAccessError, match="is there already"):
        publish_new(target)
    assert text_at(target) == NEW
    assert names_in(tmp_path) == of_checkpoint(target)


@pytest.mark.parametrize(
    ("is_folder", "expected"),
    [(True, ["{}/inner/data", "{}/inner", "{}", "."]), (False, ["{}", "{}.manifest.json", "."])],
)
def test_all_that_is_written_is_on_the_disk(tmp_path, monkeypatch, is_folder, expected):
    """The names in the folder come last, for the target has its own then."""
    done, names, real = [], [], os.fsync

    def synced(descriptor):
        done.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    publish_new(tmp_path / "a", is_folder, lambda path: names.append(os.path.basename(path)))
    assert done == [each.format(*names) for each in expected]


def test_room_is_looked_for_before_it_is_needed(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    check_room(str(tmp_path / "a"), free // 2)
    with pytest.raises(FileAccessError, match=r"a: needs [\d,]+ bytes, its disk has [\d,]+;"):
        check_room(str(tmp_path / "a"), free)
