"""Which statement leaves a value in a collection: sows it, or writes it into a variable."""

import ast
from collections.abc import Callable, Iterable, Iterator

from shared.program.graph import Graph, Node
from shared.program.source import Place, users_place
from shared.program.syntax import functions_around, tree

# What a scan returns of all its iterations; each is made in one place.
_OF_LAYERS = ("stack", "collect", "transpose")
# Methods of a variable of NNX that change it.
_SETTERS = ("set_value", "set_raw_value", "copy_from", "update_from_state")


def sown_at(graph: Graph, node: Node, name: str) -> Place | None:
    """The statement that sows the value of `node` as `name`; None if none is found."""
    return _statement(graph, node, lambda part: _sows(part, name))


def written_at(graph: Graph, node: Node, name: str) -> Place | None:
    """The statement that writes the value of `node` into the attribute `name`, or that makes it."""
    found = _statement(graph, node, lambda part: _writes(part, name))
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
        for function in reversed(functions_around(place.file, place.line)):
            lines = sorted(found_in(function))
            if lines:
                line = next((n for n in lines if n >= place.line), lines[-1])
                return Place(place.file, line, place.function)
    if node.stack:
        return None
    files = {place.file: None for each in graph.nodes for place in each.stack if place.is_users}
    found = (Place(file, line, "") for file in files for line in sorted(found_in(tree(file))))
    return next(found, None)


def _sows(part: ast.AST, name: str) -> Iterator[int]:
    for call in ast.walk(part):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            names = {each.value for each in given if isinstance(each, ast.Constant)}
            if call.func.attr == "sow" and name in names:
                yield call.lineno


def _writes(part: ast.AST, name: str) -> Iterator[int]:
    for statement in ast.walk(part):
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
