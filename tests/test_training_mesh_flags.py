"""Flags of `composed-lifts train` for several devices and processes that do not fit are told."""

import pytest

from shared.cli import main

ADDRESS = "--coordinator_address=127.0.0.1:4711"
TWO = ("--mesh=data:4,model:2", ADDRESS, "--num_processes=2")
WRONG = [
    ("--mesh=", "unknown axis ''"),
    ("--mesh=dat:4", "did you mean data?"),
    ("--mesh=data:4,data:2", "axis 'data' twice"),
    ("--mesh=data:0", "expected a number of devices, 1 or more"),
    ("--mesh=data", "expected a number of devices, 1 or more"),
    ("--mesh=data:3", "--batch_size=16: expected a multiple of 3"),
    ("--mesh=model:3", "parts 4 heads among 3 devices"),
    ("--mesh=data:2,model:4", "set JAX_NUM_CPU_DEVICES=8, which makes 8 of a CPU"),
    ((*TWO,), "without --process_id"),
    (("--mesh=data:8", "--process_id=0"), "without --coordinator_address and --num_processes"),
    ((ADDRESS, "--num_processes=2", "--process_id=0"), "--num_processes without --mesh"),
    ((*TWO, "--process_id=2"), "expected less than --num_processes=2"),
    ((*TWO, "--process_id=0", "--coordinator_address=here"), "expected HOST:PORT"),
    ((*TWO, "--process_id=0", "--checkpoint_dir=run"), "--checkpoint_dir with --num_processes"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_flags_that_do_not_fit_are_told(words, said, capsys):
    words = (words,) if isinstance(words, str) else words
    assert main(["train", "--impl=linen", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
