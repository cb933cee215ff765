"""What one program leaves out: without it, the other program computes the same."""

from typing import Any, NamedTuple

import numpy as np

from shared.program.canonical import only_reshapes
from shared.program.evaluate import computed_again
from shared.program.graph import Node, constant_value, is_start
from shared.program.source import users_place
from shared.program.syntax import are_one_statement
from shared.verification.locate.both import Both
from shared.verification.locate.side import Side
from shared.verification.locate.values import is_key, same_in_place, size_of

# How many operations are left out on trial, and how many are computed again for each.
_TRIALS = 50
_REACH = 400
# What is left of a difference that is explained: the rounding of constants to float32.
_EXPLAINED = 1e-3


class LeftOut(NamedTuple):
    """What one program does and the other does not.

    Attributes:
      lacking: the program that does not, "linen" or "nnx".
      made: what the other does: the first operation.
      source: what that is made of; there: the same in the program that lacks it.
      behind: the operation that takes what is made; behind_there: the one that takes `there`.
    """

    lacking: str
    made: Node
    source: Node
    there: Node
    behind: Node
    behind_there: Node


def left_out(both: Both, u: Node, v: Node) -> LeftOut | None:
    """What one program does to a value on the way to `u` or `v` and the other does not.

    That is, where its absence is all that makes them differ: told by computing `u` or `v` once more
    without it.
    """
    ends = (both.a, u, both.b, v, "nnx"), (both.b, v, both.a, u, "linen")
    for side, end, other, there, lacking in ends:
        for made, source in _candidates(side, end):
            if not _is_the_other_without(side, end, made, source, other.values[there]):
                continue
            for taker in _section(other, there):
                for arg, _ in taker.args:
                    if _are_same(both, source, arg, lacking):
                        user = next(n for n in _section(side, end) if _takes(n, made))
                        nexts = (user, taker) if _are_alike(user, taker) else (end, there)
                        named = _named(side, made)
                        return LeftOut(lacking, named, maker(source), maker(arg), *nexts)
    return None


def _takes(node: Node, value: Node) -> bool:
    return any(arg is value for arg, _ in node.args)


def _are_alike(one: Node, other: Node) -> bool:
    """Whether two operations may stand for one another: by the shapes of what they make."""
    return [aval.shape for aval in one.avals] == [aval.shape for aval in other.avals]


def _named(side: Side, made: Node) -> Node:
    """`made`, or what is made for it in the same statement."""
    first = _section(side, made)[0]
    one, other = users_place(made.stack), users_place(first.stack)
    if one is None or other is None or one.file != other.file:
        return made
    return first if are_one_statement(one.file, one.line, other.line) else made


def _are_same(both: Both, source: Node, taken: Node, lacking: str) -> bool:
    one, other = (source, 0), (taken, 0)
    return both.same(one, other) if lacking == "nnx" else both.same(other, one)


def _candidates(side: Side, end: Node) -> list[tuple[Node, Node]]:
    """(operation that the other program lacks, value of both of the same size that it is made of).

    Where several operations are made of the value, the first comes first.
    """
    # {operation: those values}
    of: dict[Node, set[Node]] = {}
    found = []
    for node in _section(side, end):
        of[node] = set()
        for arg, _ in node.args:
            of[node] |= of.get(arg, {arg} if _is_source(side, arg) else set())
        if node is not end:
            found += [(node, each) for each in sorted(of[node], key=lambda n: n.number)]
    return [pair for pair in found if _fits(*pair)][:_TRIALS]


def _section(side: Side, end: Node) -> list[Node]:
    """What the other program lacks on the way to `end`, and `end`, in order."""
    seen: set[Node] = set()
    todo = [end]
    while todo:
        node = todo.pop()
        if node not in seen and (
            node is end or not (side.is_known(node) or node in side.of_weights)
        ):
            seen.add(node)
            todo += [arg for arg, _ in node.args]
    return sorted(seen, key=lambda node: node.number)


def _is_source(side: Side, node: Node) -> bool:
    return (
        side.is_known(node) and node not in side.of_weights | side.numbers and node.op != "constant"
    )


def _fits(made: Node, source: Node) -> bool:
    one, other = made.avals[0], source.avals[0]
    if len(made.avals) != 1 or one.dtype != other.dtype or one.size < 2:
        return False
    return one.size == other.size or _is_repeated(other.shape, one.shape)


def _is_repeated(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether what has one shape is repeated to another without a word: by its last axes."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(size in (1, other) for size, other in pairs)


def _is_the_other_without(side: Side, end: Node, made: Node, source: Node, other: tuple) -> bool:
    """Whether `end` has the values `other` where `source` is taken for `made`."""
    nodes = side.graph.nodes[made.number + 1 : end.number + 1]
    if len(nodes) > _REACH or is_key(side.values[source][0]):
        return False
    value, shape = np.asarray(side.values[source][0]), made.avals[0].shape
    value = value.reshape(shape) if value.size == made.avals[0].size else value
    instead = {made: (np.broadcast_to(value, shape),)}
    again = computed_again(nodes, side.values, instead, side.casts).get(end, ())
    return bool(again) and all(
        same_in_place(x, y, size_of(y)) and _is_nearer(x, y, before)
        for x, y, before in zip(again, other, side.values[end], strict=True)
    )


def _is_nearer(x: Any, y: Any, before: Any) -> bool:
    """Whether `x` is much nearer to `y` than `before`: without an epsilon all are near."""
    if np.asarray(y).dtype.kind not in "fc":
        return True
    apart, once = (np.nan_to_num(np.abs(each - y)).max(initial=0.0) for each in (x, before))
    return bool(apart <= _EXPLAINED * once)


def maker(node: Node) -> Node:
    """What computes a value that may only be reshaped or cast: true is 1 here, and 1 there."""
    while not is_start(node) and (only_reshapes(node) or _only_casts(node)):
        node = node.args[0][0]
    return node


def _only_casts(node: Node) -> bool:
    if node.op == "ne":
        zero = node.args[1][0]
        return zero.op == "constant" and not np.any(constant_value(zero))
    return node.op == "convert_element_type"
