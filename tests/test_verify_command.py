"""`composed-lifts verify`: what it prints, its exit codes, and what it says of a bad pair file."""

import json
import os
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_bad_input import answer

from shared.cases import CASES
from shared.cli import main
from shared.cli import verify as cli_verify
from shared.verification.checks.table import ALL_CHECKS

MLP = Path(__file__).parent / "ports" / "mlp.py"


@pytest.fixture
def pair_file(tmp_path):
    """Writes the MLP pair with `old` replaced by `new`: -> the value of --pair."""

    def write(old="", new="", name="PAIR"):
        path = tmp_path / "port.py"
        path.write_text(MLP.read_text().replace(old, new))
        return f"--pair={path}:{name}"

    return write


def test_an_equal_pair(pair_file, capsys, tmp_path):
    assert main(["verify", pair_file(), "--samples=1", "--format=json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "identical"
    assert document["divergence"] is None
    assert document["schema_version"] == 1
    assert {check["name"] for check in document["checks"]} == {
        *("structure", "programs", "forward", "updates", "gradients", "training", "initial")
    }
    for check in document["checks"]:
        assert check.keys() >= {"status", "max_abs", "max_ulp", "max_rel", "limit", "worst_leaf"}
    assert {
        "linen": "params/Dense_0/kernel",
        "nnx": "params/first/kernel",
        "linen_shape": [8, 16],
        "nnx_shape": [8, 16],
        "transform": "identity",
        "by": "dataflow",
    } in document["weight_map"]
    assert document["unmatched"] == {"linen": [], "nnx": []}
    assert os.listdir(tmp_path) == ["port.py"]


def test_a_different_pair_shows_both_lines(pair_file, capsys, tmp_path):
    words = ["verify", pair_file("a = nnx.relu(a)", "a = nnx.gelu(a)"), "--checks=forward"]
    report = tmp_path / "report.json"
    assert main([*words, f"--report={report}"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("different")
    for words in ("h = nn.relu(h)", "a = nnx.gelu(a)", "first difference:", "port.py:"):
        assert words in out
    assert sum(line.strip().startswith(">") for line in out.splitlines()) == 2
    divergence = json.loads(report.read_text())["divergence"]
    assert divergence["linen"]["source"] == "h = nn.relu(h)"
    assert divergence["nnx"]["source"] == "a = nnx.gelu(a)"
    assert divergence["nnx"].keys() >= {"file", "line", "source", "op", "layer"}


def test_structure_alone_is_undecided(pair_file):
    assert main(["verify", pair_file(), "--checks=structure"]) == 6


def test_all_cases(capsys, monkeypatch, pytestconfig):
    if not pytestconfig.getoption("thorough"):
        for name in list(CASES)[5:]:
            monkeypatch.delitem(CASES, name)
    assert main(["verify", "--case=all", "--checks=programs", "--format=json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert {result["verdict"] for result in results} == {"identical"}
    assert [result["name"] for result in results] == list(CASES)


def test_what_the_file_prints_does_not_spoil_the_output(pair_file, capsys):
    words = ["verify", pair_file("PAIR = Pair(", "print('hello')\nPAIR = Pair(")]
    assert main([*words, "--checks=forward", "--samples=1", "--format=json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "equal"  # the programs were not asked for
    assert "hello" in err


BAD = {
    "no file": ("", "", "PAIR", "none.py", "does not exist"),
    "no name": ("", "", "PORT", None, "has no 'PORT'; it has"),
    "no pair": ("", "", "MLP", None, "MLP is a type, expected a shared.Pair"),
    "syntax": ("class MLP", "class class", "PAIR", None, "SyntaxError"),
    "import": ("import jax\n", "import jax\nimport nowhere\n", "PAIR", None, "port.py:4: import nowhere: ModuleNotFoundError"),
    "raises when made": ("self.first = nnx.Linear(8, 16, rngs=rngs)", "raise KeyError('x')", "PAIR", None, "raise KeyError('x')"),
    "raises when traced": ("h = nn.relu(h)", "h = nn.relu(h) + jnp.ones(7)", "PAIR", None, "h = nn.relu(h) + jnp.ones(7)"),
    "inputs in no tuple": ('inputs=(jax.ShapeDtypeStruct((6, 8), "float32"),)', "inputs=3", "PAIR", None, "Pair.inputs: expected a tuple of inputs, or a function of a key that returns one, received int"),
    "no module": ("nnx=lambda rngs: Port(rngs)", "nnx=lambda rngs: 3", "PAIR", None, "Pair.nnx: expected it to return a module"),
    "numbers for a shape": ('(jax.ShapeDtypeStruct((6, 8), "float32"),)', "((6, 8),)", "PAIR", None, 'for an array of that shape write jax.ShapeDtypeStruct((6, 8), "float32")'),
    "inputs of no argument": ('(jax.ShapeDtypeStruct((6, 8), "float32"),)', "lambda: 3", "PAIR", None, "takes 0 positional arguments but 1 was given, in Pair.inputs, called with a key"),
    "a port of no argument": ("nnx=lambda rngs: Port(rngs)", "nnx=lambda: Port()", "PAIR", None, "takes 0 positional arguments but 1 was given, in Pair.nnx, called with nnx.Rngs"),
    "an input too few": ("def __call__(self, x):\n        a = self.first", "def __call__(self, x, y):\n        a = self.first", "PAIR", None, "missing 1 required positional argument: 'y', in the call of NNX's model on (float32[6,8],)"),
    "an input too few for Linen": ("nn.compact\n    def __call__(self, x)", "nn.compact\n    def __call__(self, x, y)", "PAIR", None, "missing 1 required positional argument: 'y', in Linen's init and call on (float32[6,8],)"),
    "inputs that do not fit": ("(6, 8)", "(6, 9)", "PAIR", None, "a = self.first(x)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_pair(name, pair_file, tmp_path, capsys):
    old, new, attribute, file, message = BAD[name]
    flag = pair_file(old, new, attribute)
    if file:
        flag = f"--pair={tmp_path / file}:{attribute}"
    code, line = answer(capsys, "verify", flag)
    assert code == 3
    assert message in line
    assert os.listdir(tmp_path) == ["port.py"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of --pair"),
        (["--pair=a.py:P", "--case=all"], "give one of --pair"),
        (["--case=shared", "--checks=forwards"], "--checks=forwards: expected some of"),
        (["--case=shared", "--report=x.txt"], "ending in .html or .json"),
        (["--case=shered"], "did you mean shared?"),
        (["--case=shared", "--rtol=-1"], "--rtol=-1"),
    ],
)
def test_usage(words, message, capsys):
    code, line = answer(capsys, "verify", *words)
    assert (code, message in line) == (2, True), line


def test_our_own_bug_is_not_the_users(pair_file, capsys, monkeypatch):
    monkeypatch.setattr("shared.weights.match._ROUNDS", None)
    code, line = answer(capsys, "verify", pair_file())
    assert (code, "internal error: TypeError" in line) == (70, True)


def test_a_pair_without_its_two_parts(capsys):
    code, line = answer(capsys, "verify", "--pair=port.py")
    assert (code, "expected FILE.py:NAME" in line) == (3, True)


def test_the_report_is_a_page_that_needs_no_network(tmp_path, monkeypatch, capsys):
    source = (Path(__file__).parent / "ports" / "mlp.py").read_text()
    (tmp_path / "port.py").write_text(source.replace("a = a + b", "a = a - b  # <b>"))
    monkeypatch.chdir(tmp_path)
    words = ["verify", "--pair=port.py:PAIR", "--checks=forward", "--samples=1"]
    assert main([*words, "--report=out.html"]) == 1
    page = (tmp_path / "out.html").read_text()
    parser = _Page()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert not parser.links
    assert "# &lt;b&gt;" in page
    marked = "".join(parser.marked)
    assert "h = h + y" in marked
    assert "a = a - b" in marked
    # Both programs, line beside line.
    for line in ("y = nn.Dense(16)(h)", "b = self.second(a)", "return self.last(a)"):
        assert line in parser.text


def test_a_layer_that_wants_decode_is_told_how(tmp_path, capsys):
    (tmp_path / "port.py").write_text(
        """
import jax
from flax import linen as nn
from flax import nnx
from shared import Pair

PAIR = Pair(
    linen=nn.MultiHeadDotProductAttention(2),
    nnx=lambda rngs: nnx.MultiHeadAttention(2, 8, rngs=rngs),
    inputs=(jax.ShapeDtypeStruct((2, 5, 8), "float32"),),
)
"""
    )
    assert main(["verify", f"--pair={tmp_path / 'port.py'}:PAIR"]) == 3
    error = capsys.readouterr().err
    assert "No `decode` argument was provided" in error
    assert "model.set_attributes(decode=False)" in error


class _Page(HTMLParser):
    """Collects text, marked text, links, and elements that are not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.marked, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "mark" in self.open:
            self.marked.append(data)


def test_a_module_of_the_folder_that_the_command_is_called_in(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_models").mkdir()
    (tmp_path / "own_models" / "port.py").write_text(MLP.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    assert main(["verify", "--pair=own_models.port:PAIR", "--checks=programs"]) == 0
    assert capsys.readouterr().out.startswith("identical  own_models.port:PAIR")


def test_where_nothing_is_compared_no_numbers_are_shown(tmp_path, monkeypatch, capsys):
    source = (Path(__file__).parent / "ports" / "mlp.py").read_text()
    (tmp_path / "port.py").write_text(source)
    monkeypatch.setenv("COLUMNS", "100")
    words = ["--checks=forward,updates", "--samples=1"]
    assert main(["verify", f"--pair={tmp_path / 'port.py'}:PAIR", *words]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["updates", "equal", "nothing", "to", "compare"] in rows
    assert ["forward", "equal", "0", "0"] in rows


def test_the_checks_that_the_flag_takes_are_those_there_are():
    """They are written twice, for the command line is read without JAX."""
    assert cli_verify.CHECKS == ALL_CHECKS
