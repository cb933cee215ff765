"""The syntax of the source files that operations were written in."""

import ast
import functools
import linecache

# Statements that have no statements in them.
_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Return)
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@functools.cache
def tree(file: str) -> ast.Module:
    """The syntax tree of a source; an empty one of what is no plain Python."""
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])  # a notebook's cell with magic, say


@functools.cache
def lines_of(file: str, kinds: tuple[type[ast.AST], ...]) -> list[tuple[int, int]]:
    """(first line, last line) of every piece of these kinds in a source, outer ones first."""
    found = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(tree(file))
        if isinstance(node, kinds) and isinstance(node, ast.stmt | ast.expr)
    ]
    return sorted(found, key=lambda lines: (lines[0], -lines[1]))


def is_returned(file: str, line: int) -> bool:
    """Whether a line of a source is in a `return`."""
    return any(first <= line <= last for first, last in lines_of(file, (ast.Return,)))


def return_behind(file: str, line: int) -> int | None:
    """The line where a `return` begins that is the next statement behind that of a line."""
    around = [lines for lines in lines_of(file, _SIMPLE) if lines[0] <= line <= lines[1]]
    end = around[-1][1] if around else line
    following = min(
        (lines for lines in lines_of(file, (ast.stmt,)) if lines[0] > end), default=None
    )
    return following[0] if following in lines_of(file, (ast.Return,)) else None


def are_one_statement(file: str, line: int, other: int) -> bool:
    """Whether two lines of a source are in one statement that has no statements in it."""
    return any(
        first <= min(line, other) and max(line, other) <= last
        for first, last in lines_of(file, _SIMPLE)
    )


def functions_around(file: str, line: int) -> list[Function]:
    """The functions of a source that a line is in, inner ones behind those that they are in."""
    return [each for each in _functions(file) if each.lineno <= line <= (each.end_lineno or line)]


@functools.cache
def _functions(file: str) -> list[Function]:
    found = [each for each in ast.walk(tree(file)) if isinstance(each, Function)]
    return sorted(found, key=lambda each: each.lineno)
