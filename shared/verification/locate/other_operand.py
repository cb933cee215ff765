"""What is said where two programs do the same with values that are not the same."""

import dataclasses
from collections.abc import Mapping

from shared.program.canonical import not_reshaped
from shared.program.drawn_leaves import is_draw
from shared.program.graph import Node, is_start
from shared.program.jax_programs import RESHAPES, SELECTIONS
from shared.program.view import View
from shared.report.result import Divergence
from shared.verification.locate.apart import apart, reason
from shared.verification.locate.both import Both
from shared.verification.locate.follow import Parting
from shared.verification.locate.lifted import directions
from shared.verification.locate.other_draw import drawn_otherwise, other_draw, what_is_drawn
from shared.verification.locate.passed import passed
from shared.verification.locate.side import Side
from shared.verification.locate.spot import operation_of, spot
from shared.verification.locate.statement import above, call_that_passes, choice
from shared.verification.locate.turns import started_with


def other_operand(both: Both, found: Parting, counterpart: Mapping[View, View]) -> Divergence:
    """Both do the same with values that are not the same, and that both have."""
    a, b, x, y = both.a, both.b, found.linen, found.nnx
    assert found.operands is not None
    (p, i), (q, k) = found.operands
    linen, nnx = _weight(a, p), _weight(b, q)
    if linen and nnx and is_draw(linen.leaf) and is_draw(nnx.leaf):
        return other_draw(a, b, linen, nnx, counterpart)
    if linen and nnx and counterpart.get(linen) == nnx:
        return _other_form(a, x, p, b, y, q)
    if linen and nnx:
        inverse = {other: one for one, other in counterpart.items()}
        places = directions(x, y) or (
            choice(x, linen, inverse.get(nnx)),
            choice(y, nnx, counterpart.get(linen)),
        )
        what = f"{linen} in Linen, {nnx} in NNX"
        return Divergence(what, spot(a, x, places[0]), spot(b, y, places[1]))
    if drawn := drawn_otherwise(both, x, y):
        return drawn_apart(both, *drawn)
    if selected := _selections(both, p, q):
        what = reason(*selected) if i == k else f"{p.op}: result {i} in Linen, {k} in NNX"
        places = directions(x, y) or (None, None)
        return Divergence(what, spot(a, selected[0], places[0]), spot(b, selected[1], places[1]))
    if _is_of_another_turn(both, p, y, q) and (told := directions(x, y)):
        return apart(a, x, b, y, *told)
    if starts := started_with(x, p, a, y, q, b):
        return apart(a, x, b, y, *starts)
    exchanged = any(both.same(arg, (q, k)) for arg in x.args)
    # Neither is passed in from further out than where the other is at hand as well.
    count = 0 if exchanged else min(passed(a, b, x, p), passed(b, a, y, q))
    if not (exchanged or count):
        count = _other_call(both, x, p, y, q)
    computed = None if count else _with_other_constants(both, p, q)
    if computed and not _is_made_beside(both, *computed):
        return apart(a, computed[0], b, computed[1])
    return apart(a, x, b, y, above(x, count), above(y, count))


def _is_of_another_turn(both: Both, p: Node, y: Node, q: Node) -> bool:
    """Whether NNX has `p` in another turn of a scan than that of `y`, which takes `q`."""
    if both.is_one_operation(p, q):
        return p.layer != q.layer
    twin = both.a.twin.get(p)
    return twin is not None and bool(twin.layer) and twin.layer != y.layer


def _other_form(a: Side, x: Node, p: Node, b: Side, y: Node, q: Node) -> Divergence:
    """Both take one weight, of which one of both computes something first."""
    is_as_it_is = is_start(not_reshaped(p)), is_start(not_reshaped(q))
    if is_as_it_is == (False, True):
        what = f"Linen computes {operation_of(p)}, NNX has nothing in its place"
        return Divergence(what, spot(a, p), spot(b, y, above(y, 0)))
    if is_as_it_is == (True, False):
        what = f"NNX computes {operation_of(q)}, Linen has nothing in its place"
        return Divergence(what, spot(a, x, above(x, 0)), spot(b, q))
    what = f"{operation_of(p)} in Linen, {operation_of(q)} in NNX"
    return Divergence(what, spot(a, x, above(x, 0)), spot(b, y, above(y, 0)))


def _other_call(both: Both, x: Node, p: Node, y: Node, q: Node) -> int:
    """How many calls above `y` one is made in which NNX has `p`, if `y` takes what its own has.

    Then a function does what it should with what another call of it should have been given.
    """
    name = both.a.name_of[p]
    made = [node for node in both.b.graph.nodes if both.b.name_of[node] == name]
    if not made or call_that_passes(x, p) or call_that_passes(y, q):
        return 0
    return min(call_that_passes(y, node) for node in made)


def _is_made_beside(both: Both, p: Node, q: Node) -> bool:
    """Whether NNX makes what it should have taken, `p`, in the function of `q`, on another line."""
    made = both.b.by_name.get(both.a.name_of[p])
    return made is not None and made.stack[1:] == q.stack[1:] and made.stack[:1] != q.stack[:1]


def _with_other_constants(both: Both, p: Node, q: Node) -> tuple[Node, Node] | None:
    """Where two values, such as masks, are computed alike of constants that are not the same."""
    while both.is_one_operation(p, q):
        differing = [pair for pair in both.operands(p, q) if not both.same(*pair)]
        if len(differing) != 1:
            return None
        (one, _), (other, _) = differing[0]
        if one.op == other.op == "constant":
            return p, q
        p, q = one, other
    return None


def drawn_apart(both: Both, x: Node, y: Node) -> Divergence:
    """Both compute with draws, and draw otherwise."""
    found = apart(both.a, x, both.b, y)
    return dataclasses.replace(found, reason=what_is_drawn(both, x, y) or found.reason)


def _selections(both: Both, p: Node, q: Node) -> tuple[Node, Node] | None:
    """The operations that take `p` and `q` out of one value, if that is what they are."""
    while p.op == q.op and p.op in RESHAPES and p.args:
        (p, _), (q, _) = p.args[0], q.args[0]
    takes = {p.op, q.op} <= SELECTIONS
    return (p, q) if takes and both.same(p.args[0], q.args[0]) else None


def _weight(side: Side, node: Node) -> View | None:
    """What `node` is a form of, if it is of one weight."""
    while node in side.of_weights and node not in side.graph.views:
        node = next(arg for arg, _ in node.args if arg.op != "constant")
    return side.graph.views.get(node)
