"""`convert` moves a checkpoint of `train` to the other API, where it goes on bit for bit."""

import json
import os
import shutil

import pytest
from training_runs import SIZES, events, report_of, stored, train

import shared
from shared.checkpoint.convert import Options, convert
from shared.checkpoint.formats.table import FORMATS, WRITERS
from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.integrity.opened import open_with_manifest
from shared.cli import convert as flags
from shared.cli import main
from shared.interface import IMPLEMENTATIONS
from shared.report.conversion import print_conversion

# The runs are made once.
pytestmark = pytest.mark.xdist_group("runs")
OTHER = dict(zip(IMPLEMENTATIONS, reversed(IMPLEMENTATIONS), strict=True))
STEP = 11
each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


def run(*words):
    return main(["convert", *words])


def bytes_in(directory):
    """{path: bytes} of all files below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory): path.read_bytes() for path in files}


def leaves_of(path, step=None):
    """{path: (Leaf, bytes)} of a checkpoint."""
    reader, _ = open_with_manifest(path, step)
    return {
        name: (leaf, b"" if leaf.kind == "empty" else reader.read(name).tobytes())
        for name, leaf in reader.leaves.items()
    }


def without_empty(leaves):
    return {name: each for name, each in leaves.items() if each[0].kind != "empty"}


@pytest.fixture
def source(whole_run):
    """The directory of a run that has the state after `STEP`, and later ones."""
    return lambda impl: whole_run(impl)[0]


def converted(directory, target, *words):
    code = run(f"--source_path={directory}", f"--target_path={target}", *words)
    assert code == 0
    return target


@each_implementation
@pytest.mark.quick("linen")
def test_a_run_goes_on_in_the_other_api_to_the_same_bits(impl, source, whole_run, tmp_path):
    before = bytes_in(source(impl))
    target = converted(source(impl), tmp_path / "run", f"--step={STEP}")
    assert bytes_in(source(impl)) == before
    code, lines, error = train(target, "--resume")
    assert (code, error) == (0, "")
    directory, whole, report = whole_run(OTHER[impl])
    assert events(lines) == events(whole)[-len(events(lines)) :]
    assert report_of(target) == report
    last = SIZES["steps"]
    assert stored(target, last) == stored(directory, last)


@each_implementation
@pytest.mark.parametrize("with_manifest", [True, False])
def test_there_and_back_is_the_same_checkpoint(impl, with_manifest, source, tmp_path):
    there = converted(source(impl), tmp_path / "there", f"--step={STEP}")
    if not with_manifest:
        (there / str(STEP) / "state" / "MANIFEST.json").unlink()
    back = converted(there, tmp_path / "back")
    made, expected = leaves_of(back, STEP), leaves_of(source(impl), STEP)
    if not with_manifest:  # a state that holds nothing has left no trace in NNX
        made, expected = without_empty(made), without_empty(expected)
    assert made == expected
    run_record = (str(STEP), "run", "metadata")
    assert json.loads(back.joinpath(*run_record).read_bytes()) == json.loads(
        source(impl).joinpath(*run_record).read_bytes()
    )


def test_the_function_makes_what_the_command_makes_and_returns_its_notes(source, tmp_path, capsys):
    command = converted(source("linen"), tmp_path / "command", f"--step={STEP}")
    printed = capsys.readouterr().err
    assert "has no manifest" in printed
    function = tmp_path / "function"
    made = shared.convert(source("linen"), function, Options(step=STEP))
    notes = "".join(f"composed-lifts: note: {note}\n" for note in made.notes)
    assert notes.replace(str(function), str(command)) == printed
    assert leaves_of(function, STEP) == leaves_of(command, STEP)
    records = (path.joinpath(str(STEP), "run", "metadata") for path in (command, function))
    assert len({record.read_bytes() for record in records}) == 1
    assert train(function, "--resume")[::2] == (0, "")


@each_implementation
@pytest.mark.parametrize("form", sorted(WRITERS))
def test_every_format_goes_there_and_back(impl, form, source, tmp_path):
    there = converted(source(impl), tmp_path / "there", f"--step={STEP}", f"--format={form}")
    back = converted(there, tmp_path / "back")
    name = () if form != "orbax" else (STEP,)
    assert leaves_of(back, *name) == leaves_of(source(impl), STEP)


def test_formats_that_can_be_asked_for_are_those_that_are_written():
    assert set(flags.FORMATS) == set(WRITERS) < set(FORMATS)


def test_a_dry_run_shows_all_leaves_and_writes_nothing(source, tmp_path, capsys):
    target = tmp_path / "target"
    report = tmp_path / "report.json"
    words = (f"--source_path={source('linen')}", f"--step={STEP}", f"--target_path={target}")
    assert run(*words, "--dry_run", f"--report={report}") == 0
    assert os.listdir(tmp_path) == ["report.json"]
    printed = capsys.readouterr().out
    document = json.loads(report.read_text())
    assert not document["is_written"]
    for leaf in document["leaves"]:
        assert leaf["target"] in printed
    assert run(*words) == 0
    reader, manifest = open_with_manifest(target)
    assert isinstance(manifest, Manifest)
    made = {"/".join(map(str, path)) for path, leaf in reader.leaves.items() if leaf.shape}
    assert made <= {leaf["target"] for leaf in document["leaves"]}


def test_of_many_names_the_first_are_shown(capsys):
    side = {"layout": "nnx", "path": "a", "format": "orbax", "num_leaves": 14, "num_bytes": 56}
    document = {"source": side, "target": side, "by": "rule", "is_written": True, "not_finite": {}}
    for count, end in ((12, "a9 1, a10 1"), (13, "a10 1, a11 1"), (14, "a10 1, and 2 more names")):
        names = [*(f"a{i}" for i in range(count - 1)), "step"]
        leaves = [{"target": f"{name}/count", "transform": ""} for name in names]
        print_conversion({**document, "leaves": leaves})
        held = capsys.readouterr().out.splitlines()[-1]
        assert held.startswith("holds    step 1, a0 1, a1 1, a2 1, ")
        assert held.endswith(end)


def test_what_is_there_is_replaced_when_asked_and_kept(source, tmp_path, capsys):
    target = converted(source("linen"), tmp_path / "run", f"--step={STEP}")
    before = bytes_in(target)
    words = (f"--source_path={source('linen')}", "--step=12", f"--target_path={target}")
    assert run(*words) == 4
    assert bytes_in(target) == before
    assert run(*words, "--overwrite") == 0
    assert os.listdir(target) == ["12"]
    (kept,) = [name for name in os.listdir(tmp_path) if name != "run"]
    assert bytes_in(tmp_path / kept) == before
    assert str(tmp_path / kept) in capsys.readouterr().err


def test_a_record_that_is_damaged_is_not_carried_over(source, tmp_path, capsys):
    directory = tmp_path / "source"
    shutil.copytree(source("linen"), directory)
    record = directory / str(STEP) / "run" / "metadata"
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 1'))
    words = (f"--source_path={directory}", f"--step={STEP}", f"--target_path={tmp_path / 'target'}")
    assert run(*words) == 5
    assert str(record) in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["source"]


def test_what_is_read_back_otherwise_is_not_kept(source, tmp_path, monkeypatch, capsys):
    from shared.checkpoint.formats.orbax import OrbaxReader

    parts = OrbaxReader.parts
    flipped = ("params", "embed", "embedding")

    def with_one_flipped(self, path):
        for part in parts(self, path):
            if "model" in path and "embed" in path:
                part.view("u1")[5] ^= 4
            yield part

    assert flipped in leaves_of(source("linen"), STEP)
    monkeypatch.setattr(OrbaxReader, "parts", with_one_flipped)
    target = tmp_path / "target"
    words = (f"--source_path={source('linen')}", f"--step={STEP}", f"--target_path={target}")
    assert run(*words) == 5
    assert "model/embed/embedding/value has other bytes" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_the_function_does_what_the_command_does(source, tmp_path):
    conversion = convert(source("nnx"), tmp_path / "run", Options(step=STEP))
    assert conversion.target == os.path.join(tmp_path, "run", str(STEP), "state")
    assert conversion.to == "linen"
    made = leaves_of(tmp_path / "run", STEP)
    assert without_empty(made) == without_empty(leaves_of(source("linen"), STEP))
