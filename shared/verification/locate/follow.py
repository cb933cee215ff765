"""Follows two programs from where they part to where they go on in step, and back."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence

from shared.program.canonical import not_reshaped
from shared.program.graph import Node, Value, is_start
from shared.verification.locate.both import COUNTED, Both
from shared.verification.locate.left_out import left_out
from shared.verification.locate.order import other_order
from shared.verification.locate.side import Side
from shared.verification.locate.values import is_guard

# How many operations in step are enough to believe that the programs are together; how many are
# looked at behind the place where they part.
_BELIEVED = 3
_REACH = 400
# How many operations may be passed over for one in step, and for a weight that both take.
_WORTH = 3
_WEIGHT = 18


@dataclasses.dataclass(frozen=True)
class Parting:
    """Where two programs part, and in what.

    Attributes:
      kind: "lacks": one program lacks operations; "operand": both take other values that both have;
        "order": both take the same numbers in other orders; "operation": both compute, each in its
        way.
      linen: the first operation of Linen that NNX lacks; where NNX has more, the value behind which
        it has it. nnx: the same with the sides exchanged.
      lacking: the program that lacks operations, "linen" or "nnx", or "".
      linen_next: the operation with which Linen goes on as NNX does; nnx_next: its counterpart.
      operands: where the kind is "operand", what Linen takes and what NNX takes.
      source: where the kind is "lacks", the value that both have, in the program that has more.
    """

    kind: str
    linen: Node
    nnx: Node
    lacking: str = ""
    linen_next: Node | None = None
    nnx_next: Node | None = None
    operands: tuple[Value, Value] | None = None
    source: Node | None = None


def part(both: Both, parted: Sequence[tuple[Value, Value]]) -> Parting:
    """The first difference on the way to the outputs `parted`."""
    together = _together(both, parted)
    found = _at(both, *together) if together else _between(both, *parted[0], None, None)
    guards = [pair for pair in both.a.suspects if is_guard(pair[0]) and is_guard(pair[1])]
    x, y = min(guards, key=lambda pair: pair[0].number, default=(None, None))
    if x and y and (found.linen_next is None or x.number <= found.linen_next.number):
        return Parting("operation", x, y, linen_next=x, nnx_next=y)
    lacks = found.kind == "lacks"
    x, y = (found.linen_next, found.nnx_next) if lacks else (found.linen, found.nnx)
    if x and y and (moved := other_order(both, x, y)):
        return Parting("order", *moved, linen_next=x, nnx_next=y)
    if found.kind == "operation" and together and (more := left_out(both, *together)):
        nodes = [(more.made, more.there), (more.behind, more.behind_there)]
        if more.lacking == "linen":
            nodes = [(nnx, linen) for linen, nnx in nodes]
        return Parting("lacks", *nodes[0], more.lacking, *nodes[1], source=more.source)
    return found


def _together(both: Both, parted: Sequence[tuple[Value, Value]]) -> tuple[Node, Node] | None:
    """The nearest operations, behind the place of parting, with which both go on in step."""
    reached = [_reached(both, i, [pair[i][0] for pair in parted]) for i in (0, 1)]
    linen, nnx = (
        [node for node in nodes if not side.is_known(node) and node not in side.of_weights]
        for side, nodes in zip((both.a, both.b), reached, strict=True)
    )
    candidates = defaultdict(list)
    for k, v in enumerate(nnx[:_REACH]):
        candidates[both.label(v)].append((k, v))
    best, cost = None, 2 * _REACH
    for i, u in enumerate(linen[:_REACH]):
        for k, v in candidates.get(both.label(u), ()):
            # What is passed over costs, what is explained pays.
            if i + k - _WORTH * COUNTED - _WEIGHT >= cost:
                continue
            steps = _steps_from(both, u, v)
            gain = _WORTH * steps + _WEIGHT * _share_a_weight(both, u, v)
            if steps >= _BELIEVED and i + k - gain < cost:
                best, cost = (u, v), i + k - gain
    return best


def _reached(both: Both, which: int, outputs: list[Node]) -> list[Node]:
    """What outputs are made of, as far as the other program has not the same, in order."""
    side, seen, todo = (both.a, both.b)[which], set(), outputs
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        twin = side.twin.get(node)
        pair = ((node, 0), (twin, 0)) if which == 0 else ((twin, 0), (node, 0))
        if twin is None or not both.same(*pair):
            todo += [arg for arg, _ in node.args]
    return sorted(seen, key=lambda node: node.number)


def _steps_from(both: Both, u: Node, v: Node) -> int:
    pairs = [(p, q) for p, q in both.operands(u, v) if p[0].op != "constant"]
    same = [both.same(p, q) for p, q in pairs]
    if all(same) or not (any(same) or len(pairs) == 1):
        return 0
    if not any(same) and not _have_a_source(both, *pairs[0]):
        return 0
    opened = {one[0]: other[0] for one, other in pairs if both.is_open(one, other)}
    return both.in_step({u: v, **opened})


def _share_a_weight(both: Both, u: Node, v: Node) -> bool:
    return any(p[0] in both.a.of_weights and both.same(p, q) for p, q in both.operands(u, v))


def _have_a_source(both: Both, one: Value, other: Value) -> bool:
    """Whether two values are made of one value that both programs have."""
    here, there = _sources(both.a, one), _sources(both.b, other)
    twins = {both.b.by_name.get(both.a.name_of[node], both.a.twin.get(node)) for node in here}
    # One value may be there in several shapes, of which one is the twin.
    return not twins.isdisjoint(there) or any(
        both.same((p, 0), (q, 0)) for p in here for q in there
    )


def _sources(side: Side, value: Value) -> set[Node]:
    """The known values, weights and constants aside, that a value is made of."""
    found, seen, todo = set(), set(), [value[0]]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if not side.is_known(node):
            todo += [arg for arg, _ in node.args]
        elif node.op == "input" or not (is_start(node) or node in side.of_weights):
            found.add(node)
    return found


def _at(both: Both, u: Node, v: Node) -> Parting:
    """What differs in front of two operations of one kind."""
    differing = [pair for pair in both.operands(u, v) if not both.same(*pair)]
    opened = [pair for pair in differing if both.is_open(*pair)]
    if opened:
        one, other = min(opened, key=lambda pair: pair[0][0].number)
        return _between(both, one, other, u, v)
    if differing:
        return Parting("operand", u, v, linen_next=u, nnx_next=v, operands=differing[0])
    # Operands that are nearly the same: of another constant in front of them.
    before = [pair for pair in both.a.suspects if pair[0].number < u.number]
    x, y = min(before, key=lambda pair: pair[0].number, default=(u, v))
    return Parting("operation", x, y, linen_next=u, nnx_next=v)


def _between(both: Both, one: Value, other: Value, u: Node | None, v: Node | None) -> Parting:
    """What differs in front of two values that `u` and `v` take in the same way."""
    p, q = one[0], other[0]
    alike = both.is_one_operation(p, q)
    if alike and (_differ_in_constants(both, p, q) or both.other_layout(one, other)):
        return _at(both, p, q)
    if more := both.behind(both.a, one, other):
        return Parting("lacks", more[0], q, "nnx", u, v, source=more[1])
    if more := both.behind(both.b, other, one):
        return Parting("lacks", p, more[0], "linen", u, v, source=more[1])
    if alike:
        return _at(both, p, q)
    if p in both.a.fixed and q in both.b.fixed:
        return Parting("operation", p, q, "", u, v)  # two ways to make a mask: it is another one
    x, y = _first_of_one_value(both, p, q) or (_first(both.a, p), _first(both.b, q))
    are_others = (x, y) != (p, q) and both.is_one_operation(x, y)
    if are_others and any(both.same(*pair) for pair in both.operands(x, y)):
        return _at(both, x, y)
    return Parting("operation", x, y, "", u, v)


def _differ_in_constants(both: Both, p: Node, q: Node) -> bool:
    differing = [pair for pair in both.operands(p, q) if not both.same(*pair)]
    return all(x.op == y.op == "constant" for (x, _), (y, _) in differing)


def _first_of_one_value(both: Both, p: Node, q: Node) -> tuple[Node, Node] | None:
    """The first operations that the other lacks, of those that take the same value."""
    takers: dict[Node, Node] = {}
    for v in lacking(both.b, q):
        for arg, _ in v.args:
            if not (is_start(arg) or arg in both.b.of_weights or arg in both.b.numbers):
                made = _not_cast(arg)
                takers[made] = min(v, takers.get(made, v), key=lambda node: node.number)
    found = [
        (u, takers[_not_cast(twin)])
        for u in lacking(both.a, p)
        for each, _ in u.args
        for arg in (each, _not_cast(each))
        if (twin := both.b.by_name.get(both.a.name_of[arg], both.a.twin.get(arg)))
        and _not_cast(twin) in takers
    ]
    return min(found, key=lambda pair: pair[0].number, default=None)


def _not_cast(node: Node) -> Node:
    node = not_reshaped(node)
    while node.op == "convert_element_type":
        node = not_reshaped(node.args[0][0])
    return node


def _first(side: Side, node: Node) -> Node:
    """The first operation that the other program lacks on the way to `node`."""
    return min(lacking(side, node), key=lambda each: each.number, default=node)


def lacking(side: Side, node: Node) -> Iterator[Node]:
    """What the other program lacks on the way to `node` and is computed of what it has."""

    def is_known(each: Node) -> bool:
        return side.is_known(each) or each in side.held

    seen, todo = set(), [node]
    while todo:
        here = todo.pop()
        if here in seen or is_known(here):
            continue
        seen.add(here)
        todo += [arg for arg, _ in here.args]
        if here not in side.of_weights and all(
            is_known(arg) or arg in side.of_weights for arg, _ in here.args
        ):
            yield here
