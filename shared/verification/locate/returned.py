"""Which statement makes what is returned and no operation computes: a loss that is none."""

import ast
import dataclasses
import re
from collections.abc import Iterator

from shared.program.graph import Graph
from shared.program.source import Place
from shared.program.syntax import functions_around
from shared.report.result import Divergence, Spot
from shared.verification.locate.spot import operation_of
from shared.verification.locate.statement import calls
from shared.verification.ported import Ported


def with_returned(found: Divergence | None, ported: Ported) -> Divergence | None:
    """`found`, with the statement that makes a constant on a side that has no line for it."""
    if found is None or (found.linen and found.nnx):
        return found
    linen, nnx = (_constant_of(ported, side) for side in (0, 1))
    return dataclasses.replace(found, linen=found.linen or linen, nnx=found.nnx or nnx)


def _constant_of(ported: Ported, side: int) -> Spot | None:
    """The first output that is a constant in one program, and none in the other."""
    outputs = [dict(zip(p.outputs, p.graph.outputs, strict=True)) for p in ported.programs]
    for path, (node, _) in outputs[side].items():
        other = outputs[1 - side].get(path)
        if node.op == "constant" and other and other[0].op != "constant":
            place = _returned_at(ported.programs[side].graph, path)
            op = operation_of(node)
            return Spot(place.file, place.line, place.source, op, (), "") if place else None
    return None


def _returned_at(graph: Graph, name: str) -> Place | None:
    """The last assignment of the one variable that is returned as `name`, else the `return`."""
    called = next((lines[0] for node in graph.nodes if (lines := calls(node))), None)
    if called is None:
        return None
    is_lambda = called.function.endswith("<lambda>")
    functions = [
        each
        for each in functions_around(called.file, called.line)
        if isinstance(each, ast.Lambda) == is_lambda
    ]
    if not functions:
        return None
    function = functions[-1]
    if isinstance(function, ast.Lambda):
        return Place(called.file, function.body.lineno, called.function)
    own = list(_own_statements(function))
    returns = [each for each in own if isinstance(each, ast.Return) and each.value]
    if not returns:
        return None
    taken = {each.id for each in ast.walk(_part(returns[-1], name)) if isinstance(each, ast.Name)}
    assigned = [
        (target.id, each)
        for each in own
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name) and target.id in taken
    ]
    is_one = len({variable for variable, _ in assigned}) == 1
    statement = assigned[-1][1] if is_one else returns[-1]
    return Place(called.file, statement.lineno, called.function)


def _part(statement: ast.Return, name: str) -> ast.expr:
    """What a function returns as `output[1]`."""
    assert statement.value is not None
    index = re.match(r"output\[(\d+)\]", name)
    if index and isinstance(statement.value, ast.Tuple):
        parts = statement.value.elts
        if int(index[1]) < len(parts) and not any(isinstance(each, ast.Starred) for each in parts):
            return parts[int(index[1])]
    return statement.value


def _own_statements(function: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a function, in order, without those of functions in it."""
    for each in ast.iter_child_nodes(function):
        if isinstance(each, ast.stmt):
            yield each
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _own_statements(each)
