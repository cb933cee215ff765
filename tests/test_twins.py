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
    "rngs.linen_streams": "Linen derives its keys by itself",
    "decode.linen_attention": "the default of NNX has its operations in another order",
    "sharding.with_logical_constraint": "Linen has it: `nn.with_logical_constraint`",
    "implementation.TYPES": "Linen's collections are names",
    "implementation.variables_of": "Linen's init returns its variables",
    "auxiliary.Loss": "Linen's collections are names",
    "implementation.model_class": "Linen's constructor is a function, it needs no class",
}
ONLY_IN_LINEN = {
    "bridge.init_as_linen": "a stack of NNX draws otherwise, one of Linen does not",
}
NO_PATTERNS = ("__init__.py", "implementation.py", "rngs.py")

# Signatures that differ, each with its reason.
OTHER_SIGNATURE = {
    "composed.init": "Linen is initialised by an example, NNX by its sizes",
    "composed.forward": "Linen splits a model into module and variables, NNX into graph and state",
    "implementation.arguments": "random streams are a dict of keys in Linen, an object in NNX",
    "implementation.call": "a module of NNX has its variables; Linen's is applied to them",
    "implementation.build": "in NNX to make a module is to initialise it",
    "auxiliary.observe": "Linen's variables are beside its module, NNX's in it",
    "rngs.native_rngs": "each takes the streams of its own API",
    "training.TrainState": "Linen's params are beside its module, in NNX the module has them",
    "rngs.linen_rngs": "NNX numbers its draws, Linen names them: NNX has to be told the names",
}


def public_definitions(source):
    """{name: signature} of what a file defines for others, in its order.

    A class counts as its constructor: NNX has one where Linen has a function that returns a module.
    """
    found = {}
    for node in ast.parse(source).body:
        name = getattr(node, "name", None) or ast.unparse(getattr(node, "targets", [node])[0])
        if name.startswith("_") or not name.isidentifier():
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[name] = signature(node)
        elif isinstance(node, ast.ClassDef):
            init = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            base = ast.unparse(node.bases[0]) if node.bases else ""
            inherited = found.get(base, fields(node))
            found[name] = signature(init[0]) if init else inherited
        elif isinstance(node, ast.Assign):
            found[name] = "constant"
    return found


def fields(module):
    """The constructor that a Linen module has by its fields."""
    return f"({', '.join(ast.unparse(n) for n in module.body if isinstance(n, ast.AnnAssign))})"


def signature(function):
    """Parameters with kind, annotation and default; the result, unless that is a module or None."""
    arguments = ast.unparse(function.args).removeprefix("self, ").replace(", *, rngs: nnx.Rngs", "")
    result = ast.unparse(function.returns) if function.returns else ""
    is_module = result in ("nn.Module", "nnx.Module", "Any", "")
    kind = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    return f"{kind}({arguments})" + ("" if is_module else f" -> {result}")


def check_mirror(file, linen_source, nnx_source, only_in_nnx=(), other_signature=()):
    module = file.removesuffix(".py")
    linen, nnx = public_definitions(linen_source), public_definitions(nnx_source)
    linen = {name: of for name, of in linen.items() if f"{module}.{name}" not in ONLY_IN_LINEN}
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
    if file not in NO_PATTERNS:
        for name in (linen.keys() & nnx.keys()) - {"init", "forward"}:
            assert linen[name] == nnx[name]
    assert all(linen.values())
    assert all(nnx.values())


def test_every_exception_is_needed():
    linen, nnx = (
        {
            f"{file.removesuffix('.py')}.{name}"
            for file in FILES
            for name in public_definitions((folder / file).read_text())
        }
        for folder in (LINEN, NNX)
    )
    assert nnx - linen == ONLY_IN_NNX.keys()
    assert linen - nnx == ONLY_IN_LINEN.keys()
    assert linen & nnx >= OTHER_SIGNATURE.keys()  # that they differ, check_mirror asserts


GOOD = "def first(x: int): ...\ndef second(y): ..."


@pytest.mark.parametrize(
    "bad",
    [
        "def second(y): ...\ndef first(x: int): ...",
        "def first(x: int): ...",
        GOOD + "\ndef third(): ...",
        GOOD.replace("x: int", "x: float"),
        GOOD.replace("second(y)", "second(z)"),
        GOOD.replace("second(y)", "second(y=1)"),
        GOOD.replace("second(y)", "second(*, y)"),
        GOOD.replace("second(y)", "second(y, **kwargs)"),
        GOOD.replace("second(y)", "second(y) -> int"),
        GOOD.replace("def second", "async def second"),
        GOOD + "\nCONSTANT = 1",
    ],
)
def test_planted_difference_is_caught(bad):
    check_mirror("file.py", GOOD, GOOD)
    with pytest.raises((AssertionError, KeyError)):
        check_mirror("file.py", GOOD, bad)
