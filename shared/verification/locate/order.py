"""Numbers that both programs have and take in another order: heads cut where they should not be."""

import numpy as np

from shared.program.graph import Node, Value, is_start
from shared.program.jax_programs import ELEMENTWISE, SELECTIONS
from shared.verification.locate.both import Both
from shared.verification.locate.side import Side
from shared.verification.locate.values import is_key, same_in_place, size_of

# Results have the operand's elements, in some order, perhaps repeated.
_ORDERS = {"reshape", "squeeze", "expand_dims", "transpose", "broadcast_in_dim", "rev"}


def other_order(both: Both, x: Node, y: Node) -> tuple[Node, Node] | None:
    """Where operands of `x` and `y` are put in another order, if that is all that they differ in.

    Where one program does nothing to the order, it is what makes the operand or takes it.
    """
    if x.op != y.op or len(x.args) != len(y.args):
        return None
    found = []
    for one, other in both.operands(x, y):
        if moved := _moved(both, one, other, (x, y)):
            found.append(moved)
        elif not (
            both.same(one, other) or (one[0] in both.a.of_weights and other[0] in both.b.of_weights)
        ):
            return None
    return min(found, key=lambda pair: pair[0].number, default=None)


def _moved(
    both: Both, one: Value, other: Value, users: tuple[Node, Node]
) -> tuple[Node, Node] | None:
    """The first operations that put the elements of two operands in orders that are not one."""
    linen, nnx = _orders(both.a, one), _orders(both.b, other)
    if not both.other_layout(one, other) or _is_one(both, one, other):
        return None
    for i, p in enumerate(linen):
        for k, q in enumerate(nnx):
            if p[0].avals[p[1]].shape == q[0].avals[q[1]].shape and _is_one(both, p, q):
                behind = linen[i - 1][0] if i else users[0], nnx[k - 1][0] if k else users[1]
                return behind
    if not _is_one(both, linen[-1], nnx[-1]):
        x, y = linen[-1][0], nnx[-1][0]
        if x.op in SELECTIONS and y.op in SELECTIONS and both.same(x.args[0], y.args[0]):
            return x, y  # rows of a table, by positions
        return other_order(both, x, y) if x.op in ELEMENTWISE else None
    first, second = (each[max(len(each) - 2, 0)][0] for each in (linen, nnx))
    return first, second


def _orders(side: Side, value: Value) -> list[Value]:
    """`value` and what it is an order of, the last of which is computed."""
    found = [value]
    while value[0].op in _ORDERS and not is_start(value[0]) and value[0] not in side.of_weights:
        value = value[0].args[0]
        found.append(value)
    return found


def _is_one(both: Both, one: Value, other: Value) -> bool:
    """Whether two values have the same numbers in the same order, in whatever shape."""
    x, y = both.a.values[one[0]][one[1]], both.b.values[other[0]][other[1]]
    if is_key(x) or is_key(y) or np.size(x) != np.size(y):
        return False
    return same_in_place(np.ravel(x), np.ravel(y), size_of(x))
