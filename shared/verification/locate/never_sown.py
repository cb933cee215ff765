"""A term of a sum that one program lacks, where the other sows it in a layer: a lost loss."""

import ast
from collections.abc import Sequence

from shared.program.graph import Node, is_start
from shared.program.source import Place
from shared.program.syntax import functions_around
from shared.report.result import Divergence
from shared.verification.locate.side import Side
from shared.verification.locate.spot import operation_of, spot
from shared.verification.locate.statement import calls, meeting


def never_sown(
    having: Side, node: Node, source: Node | None, lacking: Side
) -> tuple[Divergence, Divergence] | None:
    """What is said where `node` adds to `source` what a layer sows: as Linen has it, and as NNX.

    Args:
      having: the program that has the sum; lacking: the one that does not.
      node: the sum.
      source: the term that both have.
    """
    terms = [arg for arg, _ in node.args if arg is not source and not having.is_known(arg)]
    if node.op not in ("add", "add_any") or len(terms) != 1:
        return None
    made = _made_in_layer(terms[0], node)
    sown = _next_sow(made) if made else None
    if made is None or sown is None:
        return None
    there = _last_in_common(having, made, lacking)
    here = spot(having, made, sown)
    other = spot(lacking, there, _next_sow(there)) if there else None
    words = f"sows {operation_of(made)}"
    return (
        Divergence(f"Linen {words}, NNX does not", here, other),
        Divergence(f"NNX {words}, Linen does not", other, here),
    )


def _made_in_layer(term: Node, node: Node) -> Node | None:
    """What `term` is made of in another function than that of the sum."""
    around = calls(node)
    while around and not is_start(term) and _are_beside(calls(term), around):
        parts = [arg for arg, _ in term.args if arg.op != "constant"]
        if len(parts) != 1:
            return None
        term = parts[0]
    lines = calls(term)
    if not lines or not around:
        return None
    level = meeting(lines, around)
    return None if lines[level].line == around[level].line else term  # the sum calls the layer


def _are_beside(lines: Sequence[Place], others: Sequence[Place]) -> bool:
    """Whether the innermost of two calls are in one function."""
    return bool(lines) and (lines[-1].file, lines[-1].function) == (
        others[-1].file,
        others[-1].function,
    )


def _next_sow(node: Node) -> Place | None:
    """The first statement that sows, in the function of a node, that is not before it."""
    lines = calls(node)
    functions = functions_around(lines[-1].file, lines[-1].line) if lines else []
    sows = [
        call.lineno
        for call in (ast.walk(functions[-1]) if functions else ())
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr == "sow" and (call.end_lineno or call.lineno) >= lines[-1].line
    ]
    return Place(lines[-1].file, min(sows), lines[-1].function) if sows else None


def _last_in_common(having: Side, node: Node, lacking: Side) -> Node | None:
    """The last of what `node` is made of that the other program has too."""
    seen: set[Node] = set()
    found: list[Node] = []
    todo = [node]
    while todo:
        each = todo.pop()
        if each in seen or is_start(each):
            continue
        seen.add(each)
        twin = lacking.by_name.get(having.name_of[each], having.twin.get(each))
        if twin is not None and calls(twin):
            found.append(twin)
        else:
            todo += [arg for arg, _ in each.args]
    return max(found, key=lambda each: each.number, default=None)
