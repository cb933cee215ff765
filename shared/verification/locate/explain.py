"""What is said of the place where two programs part."""

from collections.abc import Mapping, Sequence

from shared.program.canonical import Names
from shared.program.graph import Node, Value, is_start
from shared.program.jax_programs import FUNCTIONS
from shared.program.source import Place
from shared.program.view import View
from shared.report.result import Divergence
from shared.verification.locate.apart import apart
from shared.verification.locate.both import Both
from shared.verification.locate.follow import Parting, lacking, part
from shared.verification.locate.lacking import what_one_lacks
from shared.verification.locate.lifted import other_axes
from shared.verification.locate.other_draw import drawn_otherwise
from shared.verification.locate.other_operand import drawn_apart, other_operand
from shared.verification.locate.passed import at_hand
from shared.verification.locate.side import Side
from shared.verification.locate.spot import operation_of, spot
from shared.verification.locate.statement import above, call_that_passes, calls, statement
from shared.verification.locate.twice import called_twice


def describe(
    a: Side,
    b: Side,
    parted: Sequence[tuple[Value, Value]],
    outputs: Sequence[tuple[Value, Value]],
    names: Names,
    counterpart: Mapping[View, View],
) -> Divergence:
    """The first difference on the way to the outputs at `parted`.

    Args:
      a: Linen's program. b: NNX's.
      parted: outputs that should be equal and are not.
      outputs: all that should be equal.
      names: those that name the values of both programs.
      counterpart: {what of Linen's weights: what of NNX's is the same}.
    """
    both = Both(a, b, names, outputs)
    found = part(both, parted)
    functions = _functions_apart(a, b, found) if found.kind in ("lacks", "operation") else None
    if found.kind == "lacks" and functions is None:
        return what_one_lacks(a, b, found, counterpart)
    if found.kind == "operand":
        return other_operand(both, found, counterpart)
    if found.kind == "order":
        return _other_order(both, found)
    x, y = functions or (found.linen, found.nnx)
    for each in lacking(a, x):
        if told := called_twice(both, each):
            return told
    if drawn := drawn_otherwise(both, x, y):
        return drawn_apart(both, *drawn)
    places = _place(a, x, found.linen_next), _place(b, y, found.nnx_next)
    if taken := _where_taken(a, x, b, y, found):
        return apart(a, x, b, y, taken[0] or places[0], taken[1] or places[1])
    if all(place not in calls(node)[-1:] for node, place in zip((x, y), places, strict=True)):
        places = None, None  # in a function of their own on both sides: it is in that function
    return apart(a, x, b, y, *places)


def _place(side: Side, node: Node, behind: Node | None) -> Place | None:
    # What is made of weights and positions alone is wrong where it is made.
    given = all(arg in side.fixed or arg in side.of_weights for arg, _ in node.args)
    return statement(node, None if given else behind)


def _where_taken(
    a: Side, x: Node, b: Side, y: Node, found: Parting
) -> tuple[Place | None, Place | None] | None:
    """Where one side takes what is given and the other computes: the statement that takes it."""
    u, v = found.linen_next, found.nnx_next
    if u is None or v is None or is_start(x) == is_start(y):
        return None
    if is_start(x):
        return above(u, at_hand(a, b, u, x, call_that_passes(v, y))), None
    return None, above(v, at_hand(b, a, v, y, call_that_passes(u, x)))


def _functions_apart(a: Side, b: Side, found: Parting) -> tuple[Node, Node] | None:
    """The functions in which two statements differ: tanh and erfc, where gelu is exact in one."""
    x, y, u, v = found.linen, found.nnx, found.linen_next, found.nnx_next
    if u is None or v is None or (found.kind == "operation" and x.op == y.op):
        return None
    lacks = found.kind == "lacks"
    ones, others = _functions(a, u if lacks else x, u), _functions(b, v if lacks else y, v)
    alone = [node for op, node in ones.items() if op not in others]
    alone_there = [node for op, node in others.items() if op not in ones]
    return (alone[0], alone_there[0]) if alone and alone_there else None


def _functions(side: Side, node: Node, behind: Node) -> dict[str, Node]:
    """{function: its first use} in the statement of `node`, of what the other program lacks."""
    place = statement(node, behind)
    found: dict[str, Node] = {}
    for each in side.graph.nodes[: behind.number]:
        if each.op in FUNCTIONS and not side.is_known(each) and statement(each, behind) == place:
            found.setdefault(each.op, each)
    return found


def _other_order(both: Both, found: Parting) -> Divergence:
    """Both take the same numbers, in other orders."""
    a, b, x, y = both.a, both.b, found.linen, found.nnx
    what = f"elements in another order: {operation_of(x)} in Linen, {operation_of(y)} in NNX"
    linen, nnx = _axes_moved(x, y) or (None, None)
    u, v = found.linen_next, found.nnx_next
    if not linen and y is v and x is not u:
        taken = next((arg for arg in y.args if both.same(x.args[0], arg)), None)
        nnx = taken and above(y, call_that_passes(y, taken[0]))
    if not nnx and x is u and y is not v:
        taken = next((arg for arg in x.args if both.same(arg, y.args[0])), None)
        linen = taken and above(x, call_that_passes(x, taken[0]))
    return Divergence(what, spot(a, x, linen), spot(b, y, nnx))


def _axes_moved(x: Node, y: Node) -> tuple[Place, Place] | None:
    """Where lifts are told their axes, if that is why one of two operations moves axes."""
    for other in (y, *(arg for arg, _ in y.args)):
        if places := other_axes(x, other):
            return places
    for other in (x, *(arg for arg, _ in x.args)):
        if places := other_axes(y, other):
            return places[1], places[0]
    return None
