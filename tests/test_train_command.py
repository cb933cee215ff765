"""`composed-lifts train`: what it prints, and what it says to a mistake."""

import contextlib
import io
import json

import numpy as np
import pytest
from training_runs import TEXT, WORDS

from shared.cli import main
from shared.cli import train as train_command
from shared.errors import UsageError
from shared.files import Writer
from shared.report import plot
from shared.report.trained import Trained
from shared.report.training import write_training

pytestmark = pytest.mark.xdist_group("runs")  # their programs are compiled once


def train(text_file, *words):
    """Runs the command at tiny sizes: its lines."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["train", *WORDS, f"--text={text_file}", *words]) == 0
    return out.getvalue().splitlines()


@pytest.fixture(scope="module")
def both(text_file, tmp_path_factory):
    """{implementation: (its lines, its report)}, of one a picture."""
    path = tmp_path_factory.mktemp("train") / "losses"
    reports = {"linen": path.with_suffix(".json"), "nnx": path.with_suffix(".png")}
    return {
        name: (train(text_file, f"--impl={name}", f"--report={path}"), path)
        for name, path in reports.items()
    }


def test_both_print_the_same_losses(both):
    linen, nnx = (lines for lines, _ in both.values())
    assert linen[0].startswith("linen  case transformer  seed 0")
    assert nnx[0].startswith("nnx  case transformer  seed 0")
    assert linen[-1].startswith("time ")
    assert linen[1:-1] == nnx[1:-1]
    assert [line.split()[:2] for line in linen if line.startswith("step")] == [
        ["step", str(number)] for number in range(1, 13)
    ]
    assert any("by counting: bigram" in line and "trigram" in line for line in linen)
    assert any("each step is" in line for line in linen)


def test_json_is_a_line_a_step(text_file, monkeypatch):
    monkeypatch.setattr(train_command, "VALIDATIONS", 4)
    linen, nnx = (
        [json.loads(line) for line in train(text_file, f"--impl={name}", "--format=json")]
        for name in ("linen", "nnx")
    )
    start, *steps, end = linen
    assert start["event"] == "start"
    assert start["config"]["features"] == 8
    assert start["num_characters"]["different"] == len(set(TEXT))
    assert [step["step"] for step in steps] == list(range(1, 13))
    assert [step["step"] for step in steps if "validation" in step] == [3, 6, 9, 12]
    assert [step["loss"] for step in steps] == [step["loss"] for step in nnx[1:-1]]
    assert end["samples"] == nnx[-1]["samples"]
    (first, *_) = end["samples"]
    assert len(first["given"]) == 7
    assert first["given"] in TEXT
    assert len(first["written"]) == 1


def test_the_losses_are_written_as_a_picture_and_as_json(both):
    (lines, document), (_, picture) = both["linen"], both["nnx"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(document.read_text())
    assert list(found["losses"]) == [str(number) for number in range(1, 13)]
    printed = [line.split()[3] for line in lines if line.startswith("step")]
    assert printed == [str(np.float32(loss)) for loss in found["losses"].values()]


def test_without_matplotlib_the_extra_is_said_after_the_text(monkeypatch, tmp_path):
    monkeypatch.setattr(plot, "has_matplotlib", lambda: False)
    run = Trained("nnx", {}, "a text", {}, 1, {}, losses={1: 2.0})
    writer = Writer(str(tmp_path / "losses.png"), writable=train_command.WRITABLE, flag="--report")
    with pytest.raises(UsageError, match="needs matplotlib, which is not installed: pip install"):
        write_training(run, writer)


@pytest.mark.parametrize(
    ("words", "expected", "code"),
    [
        ((), "--impl is missing", 2),
        (("--impl=torch",), "expected one of linen, nnx", 2),
        (("--impl=nnx", "--steps=0"), "steps", 2),
        (("--impl=nnx", "--features=10"), "--features=10: expected a multiple of 4", 2),
        (("--impl=nnx", "--learning_rate=nan"), "expected a number above 0", 2),
        (("--impl=nnx", "--learning_rate=0"), "expected a number above 0", 2),
        (("--impl=nnx", "--features=400000"), "the limit is 4 GiB", 2),
        (("--impl=nnx", "--length=100000"), "expected at least 1,000,010 characters", 3),
        (("--impl=nnx", "--text=/nowhere/text"), "No such file", 4),
        (("--impl=nnx", "--report=losses.pdf"), "expected a name ending in .png or .json", 2),
        (("--impl=nnx", "--case=shared"), "Unknown command line flag 'case'", 2),
    ],
)
def test_a_mistake_is_one_line(capsys, words, expected, code):
    assert main(["train", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert err.count("\n") == 1


def test_a_text_that_is_not_utf_8_is_told_with_its_byte(capsys, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"a" * 500 + "\u00e9".encode("latin-1"))
    assert main(["train", "--impl=nnx", f"--text={path}"]) == 3
    assert "byte 500 (0xe9) is not UTF-8" in capsys.readouterr().err
