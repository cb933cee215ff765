"""The twins mirror each other: same files, same public names in the same order, same signatures."""

import ast
from pathlib import Path

import pytest

import linen_impl
import nnx_impl

LINEN, NNX = (Path(package.__file__).parent for package in (linen_impl, nnx_impl))
FILES = sorted(path.name for path in LINEN.glob("*.py"))

# What NNX has and Linen has not, each with its reason. A constructor of a module needs no row:
# in NNX to make a module is to initialise it, so it takes `rngs` too.
ONLY_IN_NNX = {
    "rngs.LinenStream": "Linen derives its keys by itself",
    "rngs.LinenRngs": "Linen derives its keys by itself",
    "implementation.model_class": "Linen's constructor is a function, it needs no class",
}
# Signatures that differ, each with its reason.
OTHER_SIGNATURE = {
    "block.Block": "fields are Linen's constructor; rngs are NNX's",
    "composed.forward": "Linen splits a model into module and variables, NNX into graph and state",
    "implementation.build": "in NNX to make a module is to initialise it",
    "rngs.linen_rngs": "NNX numbers its draws, Linen names them: NNX has to be told the names",
}


def public_definitions(source):
    """{name: parameters} of the public functions and classes of a file, in its order."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found[node.name] = parameters(node)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            init = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            found[node.name] = without_rngs(parameters(init[0])[1:]) if init else None
    return found


def parameters(function):
    a = function.args
    return [ast.unparse(arg) for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]


def without_rngs(params):
    return [p for p in params if p != "rngs: nnx.Rngs"]


def check_mirror(file, linen_source, nnx_source, only_in_nnx=(), other_signature=()):
    module = file.removesuffix(".py")
    linen, nnx = public_definitions(linen_source), public_definitions(nnx_source)
    assert list(linen) == [name for name in nnx if f"{module}.{name}" not in only_in_nnx]
    for name, params in linen.items():
        equal = params == nnx[name]
        assert equal != (f"{module}.{name}" in other_signature), f"{name}: {params} | {nnx[name]}"


def test_same_files():
    assert sorted(path.name for path in NNX.glob("*.py")) == FILES


@pytest.mark.parametrize("file", FILES)
def test_same_definitions(file):
    sources = [(folder / file).read_text() for folder in (LINEN, NNX)]
    check_mirror(file, *sources, ONLY_IN_NNX, OTHER_SIGNATURE)


@pytest.mark.parametrize("file", FILES)
def test_same_words_about_the_same_things(file):
    """The first line of a docstring says what a thing is; it is the same thing on both sides."""
    linen, nnx = (
        {
            node.name: (ast.get_docstring(node) or "").split("\n")[0]
            for node in ast.parse((folder / file).read_text()).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        for folder in (LINEN, NNX)
    )
    if file in ("composed.py", "ensemble.py"):
        for name in linen.keys() - {"forward"}:
            assert linen[name] == nnx[name]
    assert all(linen.values())


def test_every_exception_is_needed():
    definitions = {
        f"{file.removesuffix('.py')}.{name}": folder
        for folder in (LINEN, NNX)
        for file in FILES
        for name in public_definitions((folder / file).read_text())
    }
    assert definitions.keys() >= ONLY_IN_NNX.keys() | OTHER_SIGNATURE.keys()


GOOD = "def first(x: int): ...\ndef second(y): ..."


@pytest.mark.parametrize(
    "bad",
    [
        "def second(y): ...\ndef first(x: int): ...",
        "def first(x: int): ...",
        GOOD + "\ndef third(): ...",
        GOOD.replace("x: int", "x: float"),
        GOOD.replace("second(y)", "second(z)"),
    ],
    ids=["order", "missing", "longer", "annotation", "parameter"],
)
def test_planted_difference_is_caught(bad):
    check_mirror("file.py", GOOD, GOOD)
    with pytest.raises((AssertionError, KeyError)):
        check_mirror("file.py", GOOD, bad)
