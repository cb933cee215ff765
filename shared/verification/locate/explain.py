"""What is said of the place where two programs part."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from shared.program.canonical import Names, not_reshaped, only_reshapes, params_that_matter
from shared.program.drawn_leaves import is_draw
from shared.program.graph import (
    Node,
    Value,
    constant_value,
    depends_on_weights,
    is_made_of_constants,
    is_start,
)
from shared.program.jax_programs import ERROR_FUNCTION, FUNCTIONS, RESHAPES, SELECTIONS
from shared.program.source import Place
from shared.program.view import View
from shared.report.result import Divergence
from shared.verification.locate.both import Both
from shared.verification.locate.follow import Parting, part
from shared.verification.locate.layers import skipped_layer
from shared.verification.locate.lifted import directions, other_axes
from shared.verification.locate.other_draw import drawn_otherwise, other_draw, what_is_drawn
from shared.verification.locate.side import Side
from shared.verification.locate.spot import operation_of, spot
from shared.verification.locate.statement import (
    above,
    call_that_passes,
    calls,
    choice,
    gap,
    gap_in_rest,
    statement,
)
from shared.verification.locate.values import is_near_in_half_precision


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
        return _lacks(a, b, found, counterpart)
    if found.kind == "operand":
        return _other_operand(both, found, counterpart)
    if found.kind == "order":
        return _other_order(a, b, found)
    x, y = functions or (found.linen, found.nnx)
    if drawn := drawn_otherwise(both, x, y):
        return _drawn_apart(both, *drawn)
    places = statement(x, found.linen_next), statement(y, found.nnx_next)
    if taken := _where_taken(a, x, b, y, found):
        return apart(a, x, b, y, taken[0] or places[0], taken[1] or places[1])
    if all(place not in calls(node)[-1:] for node, place in zip((x, y), places, strict=True)):
        places = None, None  # in a function of their own on both sides: it is in that function
    return apart(a, x, b, y, *places)


def _where_taken(
    a: Side, x: Node, b: Side, y: Node, found: Parting
) -> tuple[Place | None, Place | None] | None:
    """Where one side takes what is given and the other computes: the statement that takes it."""
    u, v = found.linen_next, found.nnx_next
    if u is None or v is None or is_start(x) == is_start(y):
        return None
    if is_start(x):
        return above(u, _at_hand(a, u, x, call_that_passes(v, y))), None
    return None, above(v, _at_hand(b, v, y, call_that_passes(u, x)))


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


def apart(
    a: Side, x: Node, b: Side, y: Node, linen: Place | None = None, nnx: Place | None = None
) -> Divergence:
    """What is said of two operations with other results, of `linen` and `nnx` if they are there."""
    near = is_near_in_half_precision(a.values[x][0], b.values[y][0])
    other = (x.op in ERROR_FUNCTION) != (y.op in ERROR_FUNCTION)
    return Divergence(reason(x, y), spot(a, x, linen), spot(b, y, nnx), near, other)


def _lacks(a: Side, b: Side, found: Parting, counterpart: Mapping[View, View]) -> Divergence:
    """One program has operations that the other has not."""
    x, y = found.linen, found.nnx
    one, other = found.linen_next, found.nnx_next
    # A helper may reshape what it is given.
    source = found.source and not_reshaped(found.source)
    if found.lacking == "nnx":
        what = f"Linen computes {operation_of(x)}, NNX has nothing in its place"
        places = statement(x, one, source), _gap(b, x, one, source, other, y)
        if told := skipped_layer(a, b, found, counterpart) or other_axes(x, y):
            places = told
    else:
        what = f"NNX computes {operation_of(y)}, Linen has nothing in its place"
        places = _gap(a, y, other, source, one, x), statement(y, other, source)
        if axes := other_axes(y, x):
            places = axes[1], axes[0]
    return Divergence(what, spot(a, x, places[0]), spot(b, y, places[1]))


def _gap(
    side: Side,
    having: Node,
    having_next: Node | None,
    having_source: Node | None,
    lacking_next: Node | None,
    source: Node,
) -> Place | None:
    """Where `side` lacks what the other program has; the arguments are those of `gap`."""
    of_weights = depends_on_weights(side.graph, source)
    combination = None if of_weights else _combination(side, source)
    in_rest = None if of_weights else gap_in_rest(having, having_source, source, combination)
    return in_rest or gap(having, having_next, having_source, lacking_next, source)


def _combination(side: Side, source: Node) -> Node | None:
    """What combines a value that is made of no weights, a mask, with another such value."""
    todo = [source]
    for node in todo:
        for user in side.users[node]:
            alone = only_reshapes(user) or user.op in ("broadcast_in_dim", "convert_element_type")
            combined = [arg for arg, _ in user.args if not is_made_of_constants(arg)]
            if alone and user not in todo:
                todo.append(user)
            elif len(combined) > 1 and not depends_on_weights(side.graph, user):
                return user
    return None


def _other_operand(both: Both, found: Parting, counterpart: Mapping[View, View]) -> Divergence:
    """Both do the same with values that are not the same, and that both have."""
    a, b, x, y = both.a, both.b, found.linen, found.nnx
    assert found.operands is not None
    (p, i), (q, k) = found.operands
    linen, nnx = _weight(a, p), _weight(b, q)
    if linen and nnx and is_draw(linen.leaf) and is_draw(nnx.leaf):
        return other_draw(a, b, linen, nnx, counterpart)
    if linen and nnx:
        inverse = {other: one for one, other in counterpart.items()}
        places = directions(x, y) or (
            choice(x, linen, inverse.get(nnx)),
            choice(y, nnx, counterpart.get(linen)),
        )
        what = f"{linen} in Linen, {nnx} in NNX"
        return Divergence(what, spot(a, x, places[0]), spot(b, y, places[1]))
    if drawn := drawn_otherwise(both, x, y):
        return _drawn_apart(both, *drawn)
    if selected := _selections(both, p, q):
        what = reason(*selected) if i == k else f"{p.op}: result {i} in Linen, {k} in NNX"
        places = directions(x, y) or (None, None)
        return Divergence(what, spot(a, selected[0], places[0]), spot(b, selected[1], places[1]))
    if both.is_one_operation(p, q) and p.layer != q.layer and (told := directions(x, y)):
        return apart(a, x, b, y, *told)  # the same of another turn
    exchanged = any(both.same(arg, (q, k)) for arg in x.args)
    # Neither is passed in from further out than where the other is at hand as well.
    count = 0 if exchanged else min(_passed(a, x, p), _passed(b, y, q))
    return apart(a, x, b, y, above(x, count), above(y, count))


def _drawn_apart(both: Both, x: Node, y: Node) -> Divergence:
    """Both compute with draws, and draw otherwise."""
    found = apart(both.a, x, both.b, y)
    return dataclasses.replace(found, reason=what_is_drawn(both, x, y) or found.reason)


def _passed(side: Side, node: Node, operand: Node) -> int:
    """How many calls above `node` its operand is passed in."""
    return _at_hand(side, node, operand, call_that_passes(node, operand))


def _at_hand(side: Side, node: Node, operand: Node, default: int) -> int:
    """How many calls above `node` an input is taken as the other program does; else `default`."""
    others = [user for user in side.users[operand] if user is not node and side.is_known(user)]
    found = [call_that_passes(node, user) for user in others if operand.op == "input"]
    return min(found, default=default)


def _other_order(a: Side, b: Side, found: Parting) -> Divergence:
    """Both take the same numbers, in other orders."""
    x, y = found.linen, found.nnx
    what = f"elements in another order: {operation_of(x)} in Linen, {operation_of(y)} in NNX"
    linen, nnx = _axes_moved(x, y) or (None, None)
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


def only_in_gradients(a: Side, b: Side) -> Divergence | None:
    """What shows in the gradients alone: one that is stopped, a constant that later values hide."""

    def unmatched(one: Side, other: Side) -> tuple[Node, Node] | None:
        for node in one.graph.nodes:
            stops = node.op == "stop_gradient" and node in one.compared
            if stops and node.args[0][0] in one.twin:
                twin = one.twin[node.args[0][0]]
                if not any(user.op == "stop_gradient" for user in other.users[twin]):
                    return node, twin
        return None

    if found := unmatched(b, a):
        return Divergence(
            "NNX stops the gradient, Linen does not", spot(a, found[1]), spot(b, found[0])
        )
    if found := unmatched(a, b):
        return Divergence(
            "Linen stops the gradient, NNX does not", spot(a, found[0]), spot(b, found[1])
        )
    if a.suspects:
        x, y = min(a.suspects, key=lambda pair: pair[0].number)
        return apart(a, x, b, y)
    return None


def _compared(key: str, first: Any, second: Any) -> str:
    if re.search("\n| at 0x", f"{first}{second}"):
        return f"another {key}"  # a program within the program, a function
    return f"{key}={first} in Linen, {second} in NNX"


def reason(x: Node, y: Node) -> str:
    if x.op != y.op:
        return f"{operation_of(x)} in Linen, {operation_of(y)} in NNX"
    first, second = params_that_matter(x), params_that_matter(y)
    changed = [
        _compared(key, first.get(key), second.get(key))
        for key in sorted(first.keys() | second.keys())
        if str(first.get(key)) != str(second.get(key))
    ]
    constants = [
        [constant_value(arg) for arg, _ in node.args if arg.op == "constant"] for node in (x, y)
    ]
    for one, other in zip(*constants, strict=False):
        if one.size == other.size == 1 and one != other:
            changed.append(f"{one.item():g} in Linen, {other.item():g} in NNX")
    return f"{x.op}: " + ("; ".join(changed) if changed else "on other operands")
