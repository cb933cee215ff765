"""Another package called `shared` in front of ours is named, in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(sys.executable).parent / "composed-lifts")


@pytest.fixture
def foreign(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "__init__.py").write_text("")
    return tmp_path


def test_the_script_says_so(foreign):
    done = subprocess.run(
        [SCRIPT, "--impl=nnx"],
        capture_output=True,
        text=True,
        cwd=foreign,
        env=os.environ | {"PYTHONPATH": str(foreign)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"found another one at {foreign / 'shared'}" in done.stderr


@pytest.mark.parametrize("package", ["linen_impl", "nnx_impl"])
def test_the_implementations_say_so(foreign, package):
    root = Path(__file__).parent.parent
    code = f"import sys; sys.path[:0] = [{str(foreign)!r}, {str(root)!r}]; import {package}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: composed-lifts needs its own package 'shared'")
    assert str(foreign / "shared") in last
