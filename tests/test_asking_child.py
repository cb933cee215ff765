"""What asks a command to end asks the process that works for it, once."""

import contextlib
import signal
import subprocess
import sys
import time

import pytest

from shared.checkpoint.publishing.signals import SAME_REQUEST_SECONDS, SIGNALS

# The process that works for the command says where it is, and ends when it has taken all back.
PROGRAM = """
import sys, time
from shared.checkpoint.publishing.signals import interruptible
from shared.cli import asking_child
from shared.cli.apart import apart
from shared.cli.exit_codes import guarded

def wait():
    print("waits", flush=True)
    time.sleep(60)

def write():
    with interruptible("it"):
        try:
            wait()
        finally:
            print("takes back", flush=True)
            time.sleep({takes})
            print("took back", flush=True)

def keep():
    with interruptible("it") as signals:
        signals.hold()
        print("waits", flush=True)
        while signals.number is None:
            time.sleep(0.01)
        print("keeps", flush=True)
    print("goes on", flush=True)

def compute():
    print("waits", flush=True)
    sum(range(10**11))

asking_child.SAME_REQUEST_SECONDS = {same_request}
sys.exit(guarded(lambda: apart(lambda: guarded({work}, False), "it"), False))
"""


@contextlib.contextmanager
def waiting(work, takes=0.0, same_request=SAME_REQUEST_SECONDS, **how):
    program = PROGRAM.format(work=work, takes=takes, same_request=same_request)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    ) as process:
        assert process.stdout.readline() == "waits\n"
        yield process


def ended(process):
    out, error = process.communicate(timeout=30)
    return process.returncode, out.splitlines(), error.removeprefix("composed-lifts: error: ")


@pytest.mark.parametrize("number", SIGNALS)
def test_the_child_is_asked_when_its_parent_is(number):
    with waiting("write") as process:
        process.send_signal(number)
        assert ended(process) == (
            128 + number,
            ["takes back", "took back"],
            "interrupted; it is as it was\n",
        )


@pytest.mark.parametrize("number", SIGNALS)
def test_of_a_group_that_is_asked_each_is_asked_once(number):
    """As a terminal, a scheduler and `timeout` do."""
    with waiting("write", takes=0.3, process_group=0) as process:
        subprocess.run(["kill", f"-{number.value}", "--", f"-{process.pid}"], check=True)
        assert process.stdout.readline() == "takes back\n"
        assert ended(process) == (128 + number, ["took back"], "interrupted; it is as it was\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_twice_at_once_is_once(number):
    with waiting("write", takes=0.3, same_request=1e9) as process:
        process.send_signal(number)
        assert process.stdout.readline() == "takes back\n"
        process.send_signal(number)
        assert ended(process) == (128 + number, ["took back"], "interrupted; it is as it was\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_time_ends_it(number):
    with waiting("write", takes=60) as process:
        process.send_signal(number)
        assert process.stdout.readline() == "takes back\n"
        time.sleep(2 * SAME_REQUEST_SECONDS)
        process.send_signal(number)
        assert ended(process) == (128 + number, [], f"ended by {number.name}\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_what_waited_until_the_names_were_changed_ends_it_then(number):
    with waiting("keep") as process:
        process.send_signal(number)
        assert ended(process) == (128 + number, ["keeps"], f"ended by {number.name}\n")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("work", ["wait", "compute"])
def test_where_nothing_is_written_yet_it_ends(work, number):
    """At once, in the middle of C: KeyboardInterrupt would wait, or be lost in a callback."""
    with waiting(work) as process:
        process.send_signal(number)
        assert ended(process) == (128 + number, [], f"ended by {number.name}\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_so(number):
    """As under nohup."""
    (other,) = set(SIGNALS) - {number}
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with waiting("write") as process:
            signal.signal(number, before)
            process.send_signal(number)
            time.sleep(2 * SAME_REQUEST_SECONDS)
            assert process.poll() is None
            process.send_signal(other)
            assert ended(process) == (
                128 + other,
                ["takes back", "took back"],
                "interrupted; it is as it was\n",
            )
    finally:
        signal.signal(number, before)
