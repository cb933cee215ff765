"""Which statement of a source is meant: of a call in a call, the one where two programs part.

An operation comes from a line in a layer, called from a line of the model, and so on. Which of
these lines is the mistake shows in the calls that the operation shares with what comes behind it.
"""

import ast
import dataclasses
import linecache
import re
from collections.abc import Sequence

from shared.program.graph import Node
from shared.program.source import Place
from shared.program.syntax import lines_of
from shared.program.view import View
from shared.weights.names import layer_of, numbers

_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
_LOOPS = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)


def calls(node: Node | None) -> list[Place]:
    """The user's lines that an operation comes from, outermost first.

    What a comprehension calls is called by the function that it stands in.
    """
    found: list[Place] = []
    for place in reversed(node.stack) if node else ():
        around = found[-1] if found else None
        if not place.is_users:
            continue
        inner = place.function.removeprefix(f"{around.function}.<locals>.") if around else ""
        if inner in _COMPREHENSIONS:
            place = dataclasses.replace(place, function=found.pop().function)
        found.append(place)
    return found


def meeting(one: Sequence[Place], other: Sequence[Place]) -> int:
    """The index of the innermost call that both are in."""
    for i, (first, second) in enumerate(zip(one, other, strict=False)):
        if (first.file, first.function) != (second.file, second.function):
            return max(i - 1, 0)
        if (first.line, first.column) != (second.line, second.column):
            return i
    return max(min(len(one), len(other)) - 1, 0)


def _level(lines: Sequence[Place], source: Node | None, behind: Node | None) -> int:
    """The call, of `lines`, in which they part from what is in front of them and behind them."""
    others = [found for neighbour in (source, behind) if (found := calls(neighbour))]
    if behind is None or not others:
        return len(lines) - 1
    return max(meeting(lines, each) for each in others)


def statement(node: Node, behind: Node | None, source: Node | None = None) -> Place | None:
    """The line that `node` comes from, in the function of what is in front of it or behind it."""
    lines = calls(node)
    return lines[_level(lines, source, behind)] if lines else None


def gap(
    having: Node,
    having_next: Node | None,
    having_source: Node | None,
    lacking_next: Node | None,
    source: Node,
) -> Place | None:
    """Where a program lacks what the other has: the statement before it, or that behind it.

    Args:
      having: an operation that the other program has.
      having_next: with what that goes on; lacking_next: the same in the program that lacks it.
      having_source: the value behind which something is lacking, there; source: here.
    """
    here, there = calls(having), calls(having_next)
    makers, behind = calls(source), calls(lacking_next)
    if not behind or not here or not there:
        return makers[-1] if makers else None
    level = meeting(here, there)
    if _level(here, having_source, having_next) > level and makers:
        return makers[-1]
    place = max(len(behind) - len(there) + level, 0)
    before = calls(having_source)
    if len(makers) <= place or meeting(makers, behind) < place:
        apart = here[level].line != there[level].line
        if makers and apart and _is_in_function(before, here, level):
            return makers[meeting(makers, behind)]  # it is handed down through more calls here
        return behind[place]
    alone = len(before) <= level or before[level].line != here[level].line
    if alone and here[level].line == there[level].line:
        return behind[place]
    return makers[place]


def gap_in_rest(
    having: Node, having_source: Node | None, source: Node, taker: Node | None
) -> Place | None:
    """Where a program lacks a part of a combination that has a function of its own: a mask.

    None where the other program makes the rest elsewhere than what is lacking here.

    Args:
      having: what the other program has; having_source: the rest of it there; source: here.
      taker: what combines the rest with still more.
    """
    here, before = calls(having), calls(having_source)
    level = meeting(here, before)
    makers, takers = calls(source), calls(taker)
    if not makers or not here or not _is_in_function(before, here, level):
        return None
    if takers:
        return takers[max(len(takers) - len(here) + level, 0)]
    return makers[max(len(makers) - len(before) + level, 0)]


def _is_in_function(lines: Sequence[Place], here: Sequence[Place], level: int) -> bool:
    """Whether `lines` lead into the function that the line `level` of `here` is in."""
    if len(lines) <= level or meeting(lines, here) < level:
        return False
    return (lines[level].file, lines[level].function) == (here[level].file, here[level].function)


def call_that_passes(node: Node, operand: Node) -> int:
    """How many calls above `node` its operand is passed in."""
    lines, makers = calls(node), calls(operand)
    if not lines or operand.op in ("constant", "leaf", "view"):
        return 0
    return len(lines) - 1 - (meeting(lines, makers) if makers else 0)


def above(node: Node, count: int) -> Place | None:
    """The line `count` calls above `node`."""
    lines = calls(node)
    return lines[max(len(lines) - 1 - count, 0)] if lines else None


def choice(node: Node, view: View, meant: View | None) -> Place | None:
    """The statement that chose the weight `view` for `node`, where `meant` was meant.

    That is the scan or the loop over the layers where it is one of another layer, else the line
    that has the name in which the paths of the two weights differ. Where that line takes the i-th
    of a list and no loop says what i is, it is the loop around a call of it.
    """
    if view.index and node.layer and (meant is None or meant.leaf == view.leaf):
        return node.layer[0].place
    lines = list(reversed(calls(node)))
    for name in _names(view, meant):
        word = re.compile(rf"\b{re.escape(name)}(?![A-Za-z0-9])")
        for place in lines:
            for line in (place.line, *loops_around(place)):
                text = linecache.getline(place.file, line)
                if word.search(text):
                    index = re.search(rf"\b{re.escape(name)}\[[A-Za-z_]", text)
                    if index and not loops_around(place) and (around := loop(node)):
                        return around
                    return Place(place.file, line, place.function)
    return loop(node) if meant is None or layer_of(meant) != layer_of(view) else None


def loop(node: Node) -> Place | None:
    """The outermost loop, or scan, that `node` is in."""
    for place in calls(node):
        for line in reversed(loops_around(place)):
            return Place(place.file, line, place.function)
    return node.layer[0].place if node.layer else None


def _names(view: View, meant: View | None) -> list[str]:
    """The names in a path that tell it from the other; those of lists, if there is no other."""
    words = view.leaf.split("/")[1:]
    others = meant.leaf.split("/")[1:] if meant else []
    found = []
    for i, word in enumerate(words):
        if meant and i < len(others) and others[i] == word:
            continue
        if word.isdigit():
            found.append(words[i - 1] if i else "")
        elif meant or numbers(word):
            found.append(word)
            found.append(word.rstrip("0123456789").rstrip("_"))
    return [name for name in found if name]


def loops_around(place: Place) -> list[int]:
    """The lines where the loops around a line begin, the innermost first."""
    found = reversed(lines_of(place.file, _LOOPS))
    return [first for first, last in found if first <= place.line <= last]
