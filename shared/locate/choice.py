"""The statement that chose a weight: where a loop over layers takes the wrong one."""

import ast
import functools
import linecache
from collections.abc import Mapping

from shared.locate.side import Side
from shared.program.graph import Node
from shared.program.source import Place
from shared.program.view import View
from shared.weights.names import numbers, template

_LOOPS = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)


def wrong_layer(
    a: Side, x: Node, b: Side, y: Node, counterpart: Mapping[View, View]
) -> tuple[View, View] | None:
    """(what Linen's `x` takes, what NNX's `y` takes) where they take a weight of other layers."""
    if x.op != y.op:
        return None
    for (p, _), (q, _) in zip(x.args, y.args, strict=False):
        linen, nnx = _weight(a, p), _weight(b, q)
        expected = counterpart.get(linen) if linen else None
        if linen is None or nnx is None or expected is None or expected == nnx:
            continue
        if template(expected.leaf) == template(nnx.leaf) and _layer(expected) != _layer(nnx):
            return linen, nnx
    return None


def place_of_choice(node: Node, view: View) -> Place | None:
    """The statement that chose `view` for `node`: a scan, a loop, or the place of an index."""
    if view.index and node.layer:
        return node.layer[0].place
    users = [place for place in reversed(node.stack) if place.is_users]
    for stem in _stems(view.leaf):
        for place in users:
            for line in (place.line, *_loops_around(place.file, place.line)):
                if stem in linecache.getline(place.file, line):
                    return Place(place.file, line, place.function)
    for place in users:
        for line in _loops_around(place.file, place.line):
            return Place(place.file, line, place.function)
    return None


def _weight(side: Side, node: Node) -> View | None:
    """What `node` is a form of, if it is of one weight."""
    while node in side.forms and node not in side.graph.views:
        node = next(arg for arg, _ in node.args if arg.op != "constant")
    return side.graph.views.get(node)


def _layer(view: View) -> tuple[int, ...]:
    return (*numbers(view.leaf), *(position for _, position in view.index))


def _stems(path: str) -> list[str]:
    """What a source may call the list of layers in `path`: "params/blocks/0/up" has "blocks"."""
    words = path.split("/")[1:]
    stems = []
    for before, word in zip(["", *words], words, strict=False):
        if word.isdigit():
            stems.append(before)
        elif numbers(word):
            stems.append(word.rstrip("0123456789").rstrip("_"))
    return [stem for stem in stems if stem]


@functools.cache
def _loops(file: str) -> list[tuple[int, int]]:
    """(first line, last line) of every loop in a source, inner ones last."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return []  # a template or a notebook cell with magic: no loop is known
    found = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, _LOOPS)
    ]
    return sorted(found)


def _loops_around(file: str, line: int) -> list[int]:
    """The lines where the loops around `line` begin, the innermost first."""
    return [first for first, last in reversed(_loops(file)) if first <= line <= last]
