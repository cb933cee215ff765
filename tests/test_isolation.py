"""No implementation imports the other, `shared` no Flax modules, `--help` no JAX."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import linen_impl
import nnx_impl
import shared

ROOTS = {
    name: Path(package.__file__).parent
    for name, package in (("linen", linen_impl), ("nnx", nnx_impl), ("shared", shared))
}


def imported_names(source):
    """Every module that `source` imports, with `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def check_imports(source, forbidden):
    bad = [name for name in imported_names(source) for f in forbidden if f"{name}.".startswith(f)]
    assert not bad, bad


# Where a user's pair of modules becomes two pure functions.
KNOWS_FLAX = {
    # The last says of which classes the two modules are.
    *(
        ROOTS["shared"] / "models" / f"{name}.py"
        for name in (
            "linen",
            "nnx",
            "nnx_training",
            "linen_trainee",
            "nnx_trainee",
            "sources",
            "pair",
            "subject",
            "forms",
            "devices",
        )
    ),
}
# Each holds a stack of the other API. It imports Flax's, not the other implementation's.
BRIDGES = {ROOTS[name] / "bridge.py" for name in ("linen", "nnx")}
FORBIDDEN = {
    "linen": ["nnx_impl.", "flax.nnx."],
    "nnx": ["linen_impl.", "flax.linen."],
    "shared": ["linen_impl.", "nnx_impl.", "flax.linen.", "flax.nnx."],
}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_source_imports(package):
    files = sorted(set(ROOTS[package].rglob("*.py")) - KNOWS_FLAX)
    assert files
    for file in files:
        names = FORBIDDEN[package]
        if file in BRIDGES:
            names = [name for name in names if not name.startswith("flax.")]
        check_imports(file.read_text(), names)


@pytest.mark.parametrize(
    "line", ["import nnx_impl", "from flax import nnx", "import flax.nnx as n"]
)
def test_planted_import_is_caught(line):
    with pytest.raises(AssertionError):
        check_imports(f"def f():\n    {line}\n", FORBIDDEN["linen"])


MIDDLE = {"report", "weights", "models", "files"}
ROOMS = ("verification", "training", "checkpoint", "bench")
ABOVE = {
    "program": {"cli", *ROOMS, *MIDDLE},
    "files": {"cli", *ROOMS, "report", "weights", "models", "program"},
    "report": {"cli", *ROOMS, "weights", "models"},
    "weights": {"cli", *ROOMS, "report", "models"},
    "models": {"cli", *ROOMS, "report", "weights"},
    # They know nothing of each other, but that a step of training is timed.
    **{room: {"cli", *ROOMS} - {room} for room in ROOMS[:-1]},
    "bench": {"cli", "verification", "checkpoint"},
}


@pytest.mark.parametrize("folder", ABOVE)
def test_arrows_go_down(folder):
    files = sorted((ROOTS["shared"] / folder).rglob("*.py"))
    assert files
    for file in files:
        check_imports(file.read_text(), [f"shared.{above}." for above in ABOVE[folder]])


def test_no_file_is_imported_by_what_it_imports():
    """Wherever an import stands: in a function, too, or for types alone."""
    root = ROOTS["shared"]
    files = {
        ".".join(("shared", *file.relative_to(root).with_suffix("").parts)): file
        for file in root.rglob("*.py")
        if file.name != "__init__.py"
    }
    graph = {
        module: {
            part
            for name in imported_names(file.read_text())
            for part in (name, name.rpartition(".")[0])
            if part in files
        }
        for module, file in files.items()
    }
    assert sum(map(len, graph.values())) > len(graph)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_at_most_ten_files_stand_loose():
    assert len(list(ROOTS["shared"].glob("*.py"))) <= 10


def modules_after(code):
    """The names in sys.modules of a new interpreter that ran `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_what_shared_offers_is_imported_when_it_is_asked_for():
    assert not modules_after("import shared") & {"jax", "flax", "numpy"}
    for name in shared.__all__:
        assert getattr(shared, name) is not None
    assert callable(shared.convert)
    assert callable(shared.compare)
    with pytest.raises(AttributeError, match="no attribute 'converted'"):
        shared.converted  # noqa: B018


@pytest.mark.quick("nnx-linen")
@pytest.mark.parametrize(("chosen", "other"), [("linen", "nnx"), ("nnx", "linen")])
def test_a_run_loads_one_implementation(chosen, other):
    words = [f"--impl={chosen}", "--format=json"]
    loaded = modules_after(f"from shared.cli import main; main({words})")
    assert f"{chosen}_impl.composed" in loaded
    assert f"{other}_impl" not in loaded


@pytest.mark.thorough
def test_scipy_is_loaded_by_what_needs_it():
    loaded = modules_after("import shared.verification.pipeline")
    assert "jax" in loaded
    assert "scipy" not in loaded


@pytest.mark.parametrize("word", ["--help", "--impl=torch", "--imlp=nnx", "--version", "train"])
def test_help_and_usage_errors_load_no_jax(word):
    loaded = modules_after(f"from shared.cli import main; main([{word!r}])")
    assert "shared.cli.command" in loaded
    assert not loaded & {"jax", "flax", "numpy", "rich"}
