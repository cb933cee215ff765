"""What the README shows is what the project is: output, code and commands."""

import inspect
import operator
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import planted_mistakes
import planted_training_mistakes
import pytest
from flax import linen, nnx
from helpers import assert_identical

from shared.cases import CASES
from shared.cli import main
from shared.verification.checks.table import ALL_CHECKS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def squeeze(text):
    """`text` without indentation and empty lines."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def test_the_output_shown_is_the_output(capsys, monkeypatch):
    command = next(block for block in blocks("sh") if "--impl=nnx" in block)
    words = shlex.split(command.split("&&")[-1])[1:]
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(words) == 0
    # The last bits depend on the processor.
    printed, shown = (
        re.sub(r"sha256 [0-9a-f]{16}", "sha256", text)
        for text in (capsys.readouterr().out, blocks("text")[0])
    )
    assert shown == printed


def test_the_code_side_by_side_is_the_code():
    shown = blocks("python")
    assert len(shown) == 2
    for block, folder in zip(shown, ("linen_impl", "nnx_impl"), strict=True):
        assert squeeze(block) in squeeze((ROOT / folder / "composed.py").read_text())


# The patterns that README.md shows; the others are in the guide.
EXERCISE = ("composed", "ensemble")


def test_the_cases_are_the_cases():
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| ([\w, ]+) \|", README, flags=re.M)
    expected = [
        (c.name, c.lifts, ", ".join(c.lifted_axes)) for c in CASES.values() if c.pattern in EXERCISE
    ]
    assert rows == expected


@pytest.mark.parametrize(("file", "most"), [("README.md", 150), ("CONTRIBUTING.md", 45)])
def test_length(file, most):
    assert len((ROOT / file).read_text().splitlines()) <= most


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_every_file_named_exists(file):
    text = (ROOT / file).read_text()
    named = re.findall(r"`((?:shared|tests|linen_impl|nnx_impl|\.ci)/[\w./]*)`", text)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


VERIFY = re.findall(
    r"```{code-cell} ipython3\n(.*?)```", (ROOT / "docs" / "verify.md").read_text(), flags=re.S
)


def written(name):
    """The file that the page about `verify` writes."""
    magic = f"%%writefile {name}\n"
    return next(cell.removeprefix(magic) for cell in VERIFY if cell.startswith(magic))


def test_the_divergence_shown_is_found(capsys, monkeypatch, tmp_path):
    (tmp_path / "port.py").write_text(written("port.py"))
    command = next(cell for cell in VERIFY if cell.startswith("! composed-lifts"))
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[2:]) == 1
    printed = capsys.readouterr().out
    marked = re.findall(r"^  > +\d+ +(.*?) *$", printed, flags=re.M)
    assert marked == ["x = nn.relu(nn.Dense(16)(x))", "x = nnx.gelu(self.second(x))"]
    assert re.findall(r"^(?:linen|nnx)  (\S+):", printed, flags=re.M) == ["port.py"] * 2


def test_the_checkpoint_is_loaded_as_shown(monkeypatch, tmp_path):
    (tmp_path / "port.py").write_text(written("port.py"))
    (tmp_path / "load.py").write_text(next(cell for cell in VERIFY if "find_weight_map" in cell))
    monkeypatch.syspath_prepend(tmp_path)
    ran = runpy.run_path(str(tmp_path / "load.py"))
    monkeypatch.delitem(sys.modules, "port")
    assert_identical(ran["variables"], ran["back"])
    loaded = nnx.to_pure_dict(nnx.state(ran["port"]))
    np.testing.assert_array_equal(
        loaded["second"]["kernel"], ran["variables"]["params"]["Dense_1"]["kernel"]
    )


def test_the_checks_of_the_page_are_the_checks():
    page = (ROOT / "docs" / "verify.md").read_text()
    table = page.split("| check | compares |")[1].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, flags=re.M)) == ALL_CHECKS


PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_each_block_of_the_guide_is_executed(page):
    """What is fenced is a cell, a part of a file that tests run, a directive, or no code."""
    fences = re.findall(r"^```(\S.*)$", page.read_text(), flags=re.M)
    shown = ("{twins} ", "{literalinclude} ../tests/", "{literalinclude} ../shared/")
    assert set(fences) <= {"text", "{code-cell} ipython3", "{toctree}"} | {
        fence for fence in fences if fence.startswith(shown)
    }


def test_the_page_of_planted_mistakes_is_of_both_tables():
    page = (ROOT / "docs" / "planted_mistakes.md").read_text()
    parts = page.split("## Mistakes that only training shows")
    for part, table in zip(parts, (planted_mistakes, planted_training_mistakes), strict=True):
        lines = [line for line in part.splitlines() if "| different |" in line]
        rows = [line.strip("| ").split(" | ") for line in lines]
        assert [(pair, kind) for pair, kind, *_ in rows] == [row[:2] for row in table.BUGS]
        wrong = {(row[0], row[1]) for row in rows if "**wrong**" in " ".join(row)}
        assert wrong == set(table.LINES_MISSED)
        right = len(table.BUGS) - len(table.LINES_MISSED)
        assert f"{right / len(table.BUGS):.1%}" in part


SYMPTOMS = re.findall(
    r"^\| (.*?) \| .* \| `tests/(\w+)\.py::(\w+)` \|$",
    (ROOT / "docs" / "symptoms.md").read_text(),
    flags=re.M,
)


def quoted(row):
    """The error that a row quotes, or the one above that it is a kind of; None: it is silent."""
    seen = SYMPTOMS[row][0]
    if seen.startswith("the same, "):
        return quoted(row - 1)
    return seen.strip("` ") if seen.startswith("`") else None


@pytest.mark.parametrize("row", range(len(SYMPTOMS)), ids=[row[2] for row in SYMPTOMS])
def test_a_symptom_is_shown_by_its_test(row):
    """The test exists; an error that is quoted is the one that it expects."""
    _, file, test = SYMPTOMS[row]
    source = (ROOT / "tests" / f"{file}.py").read_text()
    found = re.search(rf"^def {test}\(.*?(?=^\S|\Z)", source, flags=re.M | re.S)
    assert found
    assert (quoted(row) or "") in found[0].replace("\\", "")


def test_every_row_of_the_symptoms_is_read():
    rows = (ROOT / "docs" / "symptoms.md").read_text().count("| `tests/")
    assert len(SYMPTOMS) == rows > 30


LINEN_API = (ROOT / "docs" / "linen_api.md").read_text()
SECTIONS = dict(
    re.findall(r"^## (?:nn\.)?([\w.]+)\n(.*?)(?=^##? |\Z)", LINEN_API, flags=re.M | re.S)
)
LIFTS = (
    *("scan", "vmap", "remat", "remat_scan", "jit", "while_loop", "cond", "switch"),
    *("map_variables", "custom_vjp", "vjp", "jvp", "add_metadata_axis"),
    *("value_and_grad", "grad", "fold_rngs", "named_call"),
)
METHODS = (
    *("Module.sow", "Module.perturb", "Module.variable", "Module.param", "Module.make_rng"),
    *("Module.bind", "Module.apply", "Module.init", "Module.init_with_output"),
    *("Module.lazy_init", "Module.tabulate"),
)


def parameters_of(package, name):
    """Those of a function of `package`, or of a method of its `Module`."""
    parameters = inspect.signature(operator.attrgetter(name)(package)).parameters
    return [parameter for parameter in parameters if parameter != "self"]


def check_complete(name, section):
    rows = re.findall(r"^\| `(\w+)` \|", section, flags=re.M)
    assert rows == parameters_of(linen, name)


@pytest.mark.parametrize("name", LIFTS + METHODS)
def test_every_parameter_of_a_lift_and_of_a_method_is_in_the_index(name):
    check_complete(name, SECTIONS[name])


def test_every_lift_of_linen_is_in_the_index():
    lifts = {name: getattr(linen, name) for name in dir(linen)}
    of_transforms = {n for n, f in lifts.items() if getattr(f, "__module__", "") == TRANSFORMS}
    assert linen.checkpoint is linen.remat
    assert of_transforms - {"checkpoint"} == set(LIFTS)


TRANSFORMS = "flax.linen.transforms"


@pytest.mark.parametrize("name", ["scan", "Module.tabulate"])
def test_a_parameter_that_is_missing_is_found(name):
    rows = re.findall(r"^\| `\w+` \|.*\n", SECTIONS[name], flags=re.M)
    assert len(rows) > 10
    for row in rows:
        with pytest.raises(AssertionError):
            check_complete(name, SECTIONS[name].replace(row, ""))


def test_the_other_methods_are_methods():
    section = LINEN_API.split("## Other methods\n")[1]
    rows = re.findall(r"^\| `(\w+)` \|", section, flags=re.M)
    assert len(rows) > 10
    beside_them = ("compact", "nowrap", "share_scope")
    assert [n for n in rows if not hasattr(linen if n in beside_them else linen.Module, n)] == []


def test_each_case_is_on_the_page_of_its_pattern():
    table = (ROOT / "docs" / "patterns" / "index.md").read_text()
    rows = re.findall(r"^\| \[.*\]\((\w+)\.md\) \| .* \| (.*) \|$", table, flags=re.M)
    named = {case: page for page, cell in rows for case in re.findall(r"`(\w+)`", cell)}
    assert named == {case.name: case.pattern for case in CASES.values()}


def test_the_cases_of_the_index_are_cases():
    cells = re.findall(r"^\| `\w+` \| .* \| (.*) \|$", LINEN_API, flags=re.M)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    linked = re.findall(r"\[`(\w+)`\]\(patterns/(\w+)\.md\)", LINEN_API)
    assert len(named) > 15
    assert named == {name for name, _ in linked}
    assert {page for name, page in linked if page != CASES[name].pattern} == set()


def test_what_is_called_a_parameter_of_nnx_is_one():
    """A cell that begins with one word in code names a parameter of what has that name in NNX."""
    checked = 0
    same = {"Module.tabulate": "tabulate"}
    for name, section in SECTIONS.items():
        try:
            parameters = parameters_of(nnx, same.get(name, name))
        except AttributeError:  # NNX has nothing of that name
            continue
        for row, cell in re.findall(r"^\| `(\w+)` \| `(\w+)`[ ,;:|]", section, flags=re.M):
            assert cell in {*parameters, "None", "True"}, f"{name}: {row}"
            checked += 1
    assert checked > 30
