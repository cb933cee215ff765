"""Which statement leaves a value in a collection: sows it, or writes it into a variable."""

import ast
import functools
import linecache
from collections.abc import Callable, Iterable, Iterator

from shared.program.graph import Graph, Node
from shared.program.source import Place, users_place

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
# What a scan returns of all its iterations; each is made in one place.
_OF_LAYERS = ("stack", "collect", "transpose")
# Methods of a variable of NNX that change it.
_SETTERS = ("set_value", "set_raw_value", "copy_from", "update_from_state")


def sown_at(graph: Graph, node: Node, name: str) -> Place | None:
    """The statement that sows the value of `node` as `name`; None if none is found."""
    return _statement(graph, node, lambda tree: _sows(tree, name))


def written_at(graph: Graph, node: Node, name: str) -> Place | None:
    """The statement that writes the value of `node` into the attribute `name`, or that makes it."""
    found = _statement(graph, node, lambda tree: _writes(tree, name))
    return found or users_place(node.stack)


def _statement(
    graph: Graph, node: Node, found_in: Callable[[ast.AST], Iterable[int]]
) -> Place | None:
    """The first statement behind the making of `node` of those that `found_in` a function.

    What no operation makes, an input say, is looked for in all of the user's files.
    """
    while node.op in _OF_LAYERS:
        node = node.args[0][0]
    for place in node.stack:
        if not place.is_users:
            continue
        # The innermost function first, then those that it is in.
        for function in reversed(_functions_around(place)):
            lines = sorted(found_in(function))
            if lines:
                line = next((n for n in lines if n >= place.line), lines[-1])
                return Place(place.file, line, place.function)
    if node.stack:
        return None
    files = {place.file: None for each in graph.nodes for place in each.stack if place.is_users}
    found = (Place(file, line, "") for file in files for line in sorted(found_in(_parsed(file))))
    return next(found, None)


def _sows(tree: ast.AST, name: str) -> Iterator[int]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            names = {each.value for each in given if isinstance(each, ast.Constant)}
            if call.func.attr == "sow" and name in names:
                yield call.lineno


def _writes(tree: ast.AST, name: str) -> Iterator[int]:
    for statement in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
            targets = [statement.target]
        elif isinstance(statement, ast.Call) and isinstance(statement.func, ast.Attribute):
            targets = [statement.func.value] if statement.func.attr in _SETTERS else []
        yield from (target.lineno for target in targets if name in _attributes(target))


def _attributes(target: ast.AST) -> set[str]:
    return {each.attr for each in ast.walk(target) if isinstance(each, ast.Attribute)}


@functools.cache
def _parsed(file: str) -> ast.AST:
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ast.Module([], [])  # no plain Python, a notebook's cell with magic say


@functools.cache
def _functions(file: str) -> list[_Function]:
    """The functions of a source, inner ones behind those that they are in."""
    found = [each for each in ast.walk(_parsed(file)) if isinstance(each, _Function)]
    return sorted(found, key=lambda each: each.lineno)


def _functions_around(place: Place) -> list[_Function]:
    return [
        each
        for each in _functions(place.file)
        if each.lineno <= place.line <= (each.end_lineno or each.lineno)
    ]
