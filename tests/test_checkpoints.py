"""A run that has ended is resumed to the same bits; what cannot be resumed is refused."""

import contextlib
import dataclasses
import os
import shutil

import orbax.checkpoint as ocp
import pytest
from training_runs import (
    SIZES,
    TEXT,
    WORDS,
    events,
    of_bytes,
    refused,
    report_of,
    stored,
    train,
)

from shared.cli import main
from shared.errors import InputError
from shared.interface import IMPLEMENTATIONS
from shared.training.checkpoints import Checkpoints
from shared.training.config import Config
from shared.training.run import first_state, steps
from shared.training.run_directory import locked
from shared.training.text import tokens_of
from shared.training.trainer import load_trainer

# The runs that all of these are held against are made once.
pytestmark = pytest.mark.xdist_group("runs")
each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


@pytest.fixture
def ended(whole_run, tmp_path):
    """A copy of a run that has ended after a step."""

    def of(impl, step):
        directory = tmp_path / "run"
        shutil.copytree(whole_run(impl)[0], directory)
        for later in range(step + 1, SIZES["steps"] + 1):
            shutil.rmtree(directory / str(later))
        return directory

    return of


@each_implementation
@pytest.mark.quick("nnx")
def test_a_checkpoint_holds_the_state_of_its_step(whole_run, impl):
    """Its arrays are donated to the next step while they are written."""
    trainer, config, tokens = load_trainer(impl), Config(**SIZES), tokens_of(TEXT, SIZES["length"])
    expected = {}
    first = first_state(trainer, config, tokens)
    for number, state, _ in steps(trainer, first, config, tokens, done=0):
        expected[number] = of_bytes(trainer.to_checkpoint(state))
    directory = whole_run(impl)[0]
    kept = sorted(path.name for path in directory.iterdir())
    assert kept == ["10", "11", "12", "lock"]
    for step in (10, 11, 12):
        assert stored(directory, step) == expected[step]
    assert expected[10] != expected[11]


@each_implementation
@pytest.mark.quick("linen")
def test_it_is_what_users_of_the_api_save(whole_run, impl):
    paths = stored(whole_run(impl)[0], 12)
    names = {
        "linen": ["key", "params/embed/embedding", "opt_state/1/0/mu/layers/up/kernel", "step"],
        "nnx": [
            *("key/value", "model/embed/embedding/value", "optimizer/step/value"),
            "optimizer/opt_state/1/0/mu/layers/up/kernel/value",
        ],
    }
    assert paths.keys() >= set(names[impl])
    assert paths[names[impl][0]][0] == "key<fry>"


@each_implementation
@pytest.mark.quick("nnx")
def test_a_resumed_run_is_the_uninterrupted_one(whole_run, ended, impl):
    directory, lines, report = whole_run(impl)
    resumed = ended(impl, 10)
    code, after, error = train(resumed, "--resume")
    assert (code, error) == (0, "")
    assert after[0]["done"] == 10
    assert events(after) == [line for line in events(lines) if line["step"] > 10]
    assert stored(resumed, 12) == stored(directory, 12)
    assert report_of(resumed) == report


@each_implementation
@pytest.mark.quick("linen")
def test_a_finished_run_prints_its_end_again(whole_run, ended, impl, capsys):
    _, lines, report = whole_run(impl)
    resumed = ended(impl, 12)
    code, again, error = train(resumed, "--resume")
    assert (code, error) == (0, "")
    assert again[0]["done"] == 12
    assert events(again) == events(lines)[-1:]
    assert report_of(resumed) == report
    assert main(["train", f"--checkpoint_dir={resumed}", "--resume"]) == 0
    out = capsys.readouterr().out
    assert "steps  12 of 12 are made: none to go\n" in out
    assert f"validation {report['validation']['12']:.4f}" in out


def test_states_are_saved_every_so_many_steps_and_at_the_end(text_file, tmp_path):
    directory = tmp_path / "run"
    words = ("--impl=linen", f"--text={text_file}", *WORDS, "--checkpoint_every=5")
    assert train(directory, *words)[0] == 0
    assert sorted(path.name for path in directory.iterdir()) == ["10", "12", "5", "lock"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--impl=linen"],
            "holds a run after step 11; --resume goes on with it, or choose an empty folder",
        ),
        (
            ["--resume", "--learning_rate=0.01"],
            "--learning_rate=0.01, but the run in {0} was "
            "started with 0.005; leave --learning_rate out, or start a run in another folder",
        ),
        (["--resume", "--steps=24"], "--steps=24, but the run in {0} was started with 12; leave"),
        (
            ["--resume", "--features=16"],
            "was started with 8 (first leaf that differs: params/embed/embedding is (28, 8), "
            "expected (28, 16)); leave --features out",
        ),
        (
            ["--resume", "--num_layers=2"],
            "params/layers/attention/key/bias is (1, 4, 2), expected (2, 4, 2)",
        ),
        (
            ["--resume", "--impl=nnx"],
            "--impl=nnx, but the run in {0} was started with linen (first "
            "leaf that differs: key/value, of shape (2,), is missing); leave --impl out",
        ),
    ],
)
def test_another_run_is_refused(ended, words, message):
    directory = ended("linen", 11)
    code, error = refused(directory, *words)
    assert code == 2
    assert message.format(directory) in error
    assert stored(directory, 11)


def test_what_has_no_flag_is_as_it_was(ended, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class OtherConfig(Config):
        num_heads: int = 2

    monkeypatch.setattr("shared.training.config.Config", OtherConfig)
    directory = ended("linen", 11)
    code, error = refused(directory, "--resume")
    assert (code, error) == (
        3,
        f"the run in {directory} was started with num_heads = 4, which is 2 in this version; go on "
        f"with composed-lifts 0.1.0",
    )


@each_implementation
def test_a_state_of_another_model_is_not_read(whole_run, impl):
    trainer, tokens = load_trainer(impl), tokens_of(TEXT, SIZES["length"])
    wider = first_state(trainer, Config(**SIZES | {"features": 16}), tokens)
    checkpoints = Checkpoints(str(whole_run(impl)[0]))
    with (
        contextlib.closing(checkpoints),
        pytest.raises(InputError, match=r"is \(28, 8\), expected"),
    ):
        checkpoints.read(12, trainer.to_checkpoint(wider))


def test_the_command_that_converts_is_named(ended):
    directory = ended("linen", 12)
    _, error = refused(directory, "--resume", "--impl=nnx")
    command = f"composed-lifts convert --source_path={directory} --step=12 --target_path=FOLDER"
    assert f"`{command}`" in error


def test_another_text_is_refused(ended, text_file, tmp_path):
    directory, other = ended("linen", 11), tmp_path / "other"
    other.write_text(TEXT.replace("fox", "fix"))
    code, error = refused(directory, "--resume", f"--text={other}")
    assert (code, error) == (
        3,
        f"the run in {directory} was started on another text than {other}; leave --text out, or "
        f"give that one with --text",
    )
    other.write_text(TEXT)
    assert train(directory, "--resume", f"--text={other}")[0] == 0


def test_other_versions_are_noted(ended, monkeypatch):
    from shared.report import document

    now = document.versions()
    monkeypatch.setattr(document, "versions", lambda: now | {"jax": "9"})
    directory = ended("linen", 12)
    code, _, error = train(directory, "--resume")
    assert (code, error) == (
        0,
        f"composed-lifts: note: the run in {directory} was made with jax {now['jax']}, here is 9: "
        f"bits may differ\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume"], "--resume needs --checkpoint_dir=FOLDER, which is missing"),
        (["--checkpoint_every=5"], "--checkpoint_every needs --checkpoint_dir=FOLDER"),
        (["--checkpoint_dir={0}/none", "--resume"], "holds no complete checkpoint; leave --resume"),
        (["--checkpoint_dir={0}"], "holds 'mine', which is no checkpoint; choose an empty folder"),
        (["--checkpoint_dir={0}/mine/run"], "cannot be written to: Not a directory; choose a"),
        (["--checkpoint_dir={0}/mine"], "cannot be written to: File exists; choose a writable"),
        (["--checkpoint_dir=/proc/run"], "cannot be written to: No such file or directory"),
    ],
)
def test_a_folder_that_does_not_fit_is_found_before_training(tmp_path, capsys, words, message):
    (tmp_path / "mine").touch()
    given = [word.format(tmp_path) for word in words]
    assert main(["train", "--impl=nnx", *given]) == (4 if "written" in message else 2)
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_a_killed_run_has_left_is_no_run(text_file, tmp_path):
    (tmp_path / "run" / "13.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    assert refused(tmp_path / "run", "--resume")[0] == 2
    code, lines, _ = train(tmp_path / "run", "--impl=nnx", f"--text={text_file}", *WORDS)
    assert (code, lines[0]["done"]) == (0, 0)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["10", "11", "12", "lock"]


def test_two_runs_in_one_folder_are_refused(ended):
    directory = ended("linen", 11)
    with locked(str(directory)):
        code, error = refused(directory, "--resume")
    assert (code, error) == (
        4,
        f"--checkpoint_dir={directory}: process {os.getpid()} trains there; wait for its end, or "
        f"choose another folder",
    )
    assert train(directory, "--resume")[0] == 0


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def another_rate(step):
    record = step / "run" / "metadata"
    record.write_text(
        record.read_text().replace('"learning_rate": 0.005', '"learning_rate": 0.006')
    )


def another_number(step):
    """What Orbax, which has no checksum of large leaves, reads without an error."""
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(step / "state")
        state["model"]["embed"]["embedding"]["value"] *= -1
        shutil.rmtree(step / "state")
        checkpointer.save(step / "state", state)


DAMAGES = {
    "a bit of the record": lambda step: flip(step / "run" / "metadata"),
    "another rate": another_rate,
    "a bit of the leaves": lambda step: flip(next(step.glob("state/d/*"))),
    "another number": another_number,
    "no record": lambda step: (step / "run" / "metadata").unlink(),
    "an empty list of leaves": lambda step: (step / "state" / "_METADATA").write_text(""),
    "no kinds of keys": lambda step: shutil.rmtree(step / "state" / "array_metadatas"),
}


@pytest.mark.quick("a bit of the leaves")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_and_which_one_is_whole(whole_run, ended, damage):
    directory = ended("nnx", 11)
    DAMAGES[damage](directory / "11")
    code, error = refused(directory, "--resume")
    assert code == 5
    assert error.startswith(f"--checkpoint_dir={directory}: the checkpoint of step 11 is damaged: ")
    assert error.endswith(
        f"; that of step 10 is whole, remove {directory / '11'} to go on from there"
    )
    shutil.rmtree(directory / "11")
    assert train(directory, "--resume")[0] == 0
    assert stored(directory, 12) == stored(whole_run("nnx")[0], 12)


def test_where_all_are_damaged_none_is_whole(ended):
    directory = ended("nnx", 11)
    for step in (10, 11):
        DAMAGES["no record"](directory / str(step))
    code, error = refused(directory, "--resume")
    assert code == 5
    assert error.endswith("; no older one is whole, start again in another folder")
