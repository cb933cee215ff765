"""A run that ends at a signal, at a kill or at a full disk is resumed to the same bits."""

import functools
import os
import resource
import signal
import time

import pytest
from training_runs import (
    SIZES,
    WORDS,
    events,
    refused,
    report_of,
    started,
    stored,
    train,
    wait_for_step,
)

from shared.checkpoint.publishing.signals import SAME_REQUEST_SECONDS, SIGNALS
from shared.cli.stopping import stopping
from shared.errors import InterruptedRunError
from shared.interface import IMPLEMENTATIONS
from shared.training.run_directory import UNFINISHED, steps_in

# The runs that all of these are held against are made once.
pytestmark = pytest.mark.xdist_group("runs")
NUM_KILLS = 20
LAST = SIZES["steps"]


def words_of(impl, text_file):
    return f"--impl={impl}", f"--text={text_file}", *WORDS


end_of_whole = functools.cache(functools.partial(stored, step=LAST))


def assert_same_end(directory, lines, whole):
    """What a run has left that was resumed, and what it printed then, are those of a whole run."""
    expected, all_lines, report = whole
    done = lines[0]["done"]
    assert events(lines) == [line for line in events(all_lines) if line["step"] > done] or (
        done == LAST and events(lines) == events(all_lines)[-1:]
    )
    assert stored(directory, LAST) == end_of_whole(expected)
    assert report_of(directory) == report
    assert not [path for path in directory.iterdir() if UNFINISHED in path.name]


@pytest.mark.quick("2-nnx")
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_the_step_that_is_running(whole_run, text_file, tmp_path, impl, number):
    whole, directory = whole_run(impl), tmp_path / "run"
    with started(directory, *words_of(impl, text_file)) as process:
        before = wait_for_step(process, 2)
        process.send_signal(number)
        out, error = process.communicate(timeout=60)
    step = steps_in(directory)[-1]
    assert step < LAST
    assert (process.returncode, error) == (
        128 + number,
        f"composed-lifts: error: interrupted after step {step}, saved in {directory}; --resume "
        f"goes on\n",
    )
    assert len(before) + out.count("\n") == 1 + step
    code, lines, error = train(directory, "--resume")
    assert (code, error, lines[0]["done"]) == (0, "", step)
    assert_same_end(directory, lines, whole)


@pytest.mark.parametrize("number", SIGNALS)
def test_without_a_folder_a_signal_ends_the_run_after_the_step(number):
    with stopping() as stop:
        stop.check("after step 2")
        os.kill(os.getpid(), number)
        with pytest.raises(InterruptedRunError, match=r"^interrupted after step 3$") as caught:
            stop.check("after step 3")
    assert caught.value.exit_code == 128 + number


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with stopping():
        os.kill(os.getpid(), number)
        assert [signal.getsignal(each) for each in SIGNALS] == [signal.SIG_DFL, signal.SIG_DFL]
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_signal_that_is_ignored_stays_so():
    """As in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            stop.check("after step 3")
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_at_once_is_the_same_request(number, monkeypatch):
    """As of `timeout`, which sends one to the process and one to its group."""
    came = []
    monkeypatch.setattr(
        "time.sleep", lambda seconds: came.append(seconds) or os.kill(os.getpid(), number)
    )
    with stopping() as stop:
        os.kill(os.getpid(), number)
        assert stop.number == number
    assert came == [SAME_REQUEST_SECONDS]


@pytest.mark.quick("9")
@pytest.mark.parametrize("point", range(NUM_KILLS), ids=str)
def test_after_a_kill_the_last_complete_checkpoint_resumes(whole_run, text_file, tmp_path, point):
    impl = IMPLEMENTATIONS[point % 2]
    whole, directory = whole_run(impl), tmp_path / "run"
    with started(directory, *words_of(impl, text_file)) as process:
        wait_for_step(process, 1 + point * (LAST - 1) // (NUM_KILLS - 1))
        time.sleep(point % 5 * 0.02)  # to save a step takes about 0.1 s
        process.kill()
    if steps_in(directory):
        code, lines, error = train(directory, "--resume")
    else:
        assert "holds no complete checkpoint" in refused(directory, "--resume")[1]
        code, lines, error = train(directory, *words_of(impl, text_file))
    assert (code, error) == (0, "")
    assert_same_end(directory, lines, whole)


@pytest.mark.thorough
def test_a_disk_that_is_full_leaves_the_older_checkpoints(whole_run, text_file, tmp_path):
    whole, directory = whole_run("nnx"), tmp_path / "run"
    with started(directory, *words_of("nnx", text_file)) as process:
        wait_for_step(process, 5)
        # The system refuses to write a larger file, as it does on a full disk.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (500, 500))
        _, error = process.communicate(timeout=60)
    step = steps_in(directory)[-1]
    assert (process.returncode, error) == (
        4,
        f"composed-lifts: error: --checkpoint_dir={directory}: a checkpoint cannot be written: "
        f"File too large; that of step {step} is there; make room, then go on with --resume\n",
    )
    code, lines, error = train(directory, "--resume")
    assert (code, error, lines[0]["done"]) == (0, "", step)
    assert_same_end(directory, lines, whole)
