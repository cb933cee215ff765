"""Where a source tells a lift what to do: the call of `nnx.scan`, not that of what it returns."""

import ast
import dataclasses
import sys
from collections.abc import Iterator, Sequence

from shared.program.source import Place
from shared.program.syntax import tree

# How many names are followed from a call to the lift.
_DEPTH = 6

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.Module
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclasses.dataclass(frozen=True)
class _Written:
    """An expression of a source, and the functions and classes around it, outermost first."""

    file: str
    node: ast.expr
    scopes: tuple[_Scope, ...]


def told(place: Place, lift: str, keywords: Sequence[str]) -> Place | None:
    """The line that tells a lift one of `keywords`; where none does, the one that makes the lift.

    None where the call at `place` is not seen to be one of what a lift returns.

    Args:
      place: the call of what the lift returns.
      lift: its name, "scan" say.
      keywords: names of its arguments, the likeliest first.
    """
    scopes = _scopes_at(place.file, place.line)
    lifts = [
        found
        for call in _calls_at(place)
        for found in _lifts(_Written(place.file, call, scopes), _DEPTH)
        if _is_lift(found, lift)
    ]
    for found in lifts:
        given = {each.arg: each.lineno for each in getattr(found.node, "keywords", ())}
        for keyword in keywords:
            if keyword in given:
                return Place(found.file, given[keyword], place.function)
    return Place(lifts[0].file, lifts[0].node.lineno, place.function) if lifts else None


def _calls_at(place: Place) -> list[ast.Call]:
    """The calls that begin at a place: of `stack()(x)` both."""
    return [
        node
        for node in ast.walk(tree(place.file))
        if isinstance(node, ast.Call)
        and (node.lineno, node.col_offset) == (place.line, place.column)
    ]


def _scopes_at(file: str, line: int) -> tuple[_Scope, ...]:
    found: list[_Scope] = [tree(file)]
    while True:
        inner = next((each for each in _inside(found[-1]) if _holds(each, line)), None)
        if inner is None:
            return tuple(found)
        found.append(inner)


def _holds(node: _Scope, line: int) -> bool:
    return not isinstance(node, ast.Module) and node.lineno <= line <= (node.end_lineno or 0)


def _inside(scope: ast.AST) -> Iterator[_Scope]:
    """The functions and classes directly in a scope."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, _Scope):
            yield node
        else:
            yield from _inside(node)


def _statements(scope: ast.AST) -> Iterator[ast.AST]:
    """What is in a scope and not in one inside of it; the functions and classes in it as such."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, _Scope):
            yield from _statements(node)


def _lifts(written: _Written, depth: int) -> Iterator[_Written]:
    """The expressions that may be the lift that makes what is called in `written`."""
    node = written.node
    if depth == 0:
        return
    if isinstance(node, ast.Call):
        yield written
        # What is called at the place itself takes values, others take functions: a lift in a lift.
        taken = node.args[:1] if depth < _DEPTH else []
        for inner in (node.func, *taken):
            yield from _lifts(dataclasses.replace(written, node=inner), depth - 1)
    elif isinstance(node, ast.Name | ast.Attribute):
        for bound in _bound(written):
            yield bound
            yield from _lifts(bound, depth - 1)


def _is_lift(written: _Written, lift: str) -> bool:
    """Whether it is a call of a lift, `nnx.scan(...)`, or of a `partial` of it, or it as it is."""
    node = written.node
    if isinstance(node, ast.Call):
        is_partial = _last_name(node.func) == "partial" and node.args
        node = node.args[0] if is_partial else node.func
    if isinstance(node, ast.Name) and any(_bound(dataclasses.replace(written, node=node))):
        return False  # a name of the user's own
    return _last_name(node) == lift


def _last_name(node: ast.expr | None) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _bound(written: _Written) -> Iterator[_Written]:
    """What a name, or an attribute of `self`, stands for; of a definition, its decorators."""
    node, scopes = written.node, written.scopes
    if isinstance(node, ast.Name):
        for i in range(len(scopes) - 1, -1, -1):
            found = list(_in_scope(written.file, scopes[: i + 1], node.id))
            if found:
                yield from reversed(found)  # the last one first
                return
    elif isinstance(node, ast.Attribute) and _last_name(node.value) == "self":
        for i, scope in enumerate(scopes):
            if isinstance(scope, ast.ClassDef):
                yield from _of_class(written.file, scopes[: i + 1], node.attr)


def _of_class(file: str, scopes: tuple[_Scope, ...], name: str) -> Iterator[_Written]:
    """What an attribute of a class is: a method, or what one assigns to it; the same of bases."""
    scope = scopes[-1]
    yield from _in_scope(file, scopes, name)
    for method in _inside(scope):
        for node in _statements(method):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and target.attr == name:
                        yield _Written(file, node.value, (*scopes, method))
    bases = [_last_name(base) for base in scope.bases] if isinstance(scope, ast.ClassDef) else []
    for base in bases:
        for other in _inside(scopes[0]):
            if isinstance(other, ast.ClassDef) and other.name == base and other is not scope:
                yield from _of_class(file, (scopes[0], other), name)


def _in_scope(file: str, scopes: tuple[_Scope, ...], name: str) -> Iterator[_Written]:
    for node in _statements(scopes[-1]):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(each, ast.Name) and each.id == name for each in targets):
                yield _Written(file, node.value, scopes)
        elif isinstance(node, _DEFINITIONS) and node.name == name:
            for decorator in node.decorator_list:
                yield _Written(file, decorator, scopes)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported(node, name)


def _imported(node: ast.ImportFrom, name: str) -> Iterator[_Written]:
    """What a name is in the module that it is imported from, where that is a file of Python."""
    module = sys.modules.get(node.module or "")
    file = getattr(module, "__file__", None) or ""
    for alias in node.names:
        is_source = file.endswith(".py") and Place(file, 1, "").is_users
        if is_source and (alias.asname or alias.name) == name:
            yield from _in_scope(file, (tree(file),), alias.name)
