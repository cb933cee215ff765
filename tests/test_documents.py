"""What the README shows is what the project is: output, code and commands."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from shared.cli import main

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
    assert main(words) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.rstrip().splitlines()]
    assert blocks("text")[0].splitlines() == printed


def test_the_code_side_by_side_is_the_code():
    shown = [block for block in blocks("python") if block.startswith("# Scan")]
    assert len(shown) == 2
    for block, folder in zip(shown, ("linen_impl", "nnx_impl"), strict=True):
        assert squeeze(block) in squeeze((ROOT / folder / "composed.py").read_text())


def test_the_other_code_runs():
    for block in blocks("python"):
        if not block.startswith("# Scan"):
            exec(compile(textwrap.dedent(block), "README.md", "exec"), {})


@pytest.mark.parametrize(("file", "most"), [("README.md", 150), ("CONTRIBUTING.md", 45)])
def test_length(file, most):
    assert len((ROOT / file).read_text().splitlines()) <= most


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_every_file_named_exists(file):
    text = (ROOT / file).read_text()
    named = re.findall(r"`((?:shared|tests|linen_impl|nnx_impl|\.ci)/[\w./]*)`", text)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
