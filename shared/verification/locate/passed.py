"""Which call gives an operation its operand: where it gives another one, that is the mistake."""

import numpy as np

from shared.program.graph import Node
from shared.program.jax_programs import RESHAPES
from shared.verification.locate.side import Side
from shared.verification.locate.statement import call_that_passes

# What is done to a value where it is taken: it was passed in as it was before.
_SPREADS = RESHAPES | {"broadcast_in_dim", "convert_element_type"}


def passed(side: Side, other: Side, node: Node, operand: Node) -> int:
    """How many calls above `node` its operand is passed in."""
    while (operand.op in _SPREADS and operand.args) or operand.op == "select_n":
        taken = operand.args[0][0] if operand.op in _SPREADS else _index(operand)
        if taken is None:
            break
        operand = taken
    return at_hand(side, other, node, operand, call_that_passes(node, operand))


def at_hand(side: Side, other: Side, node: Node, operand: Node, default: int) -> int:
    """How many calls above `node` an input is taken as the other program does; else `default`."""
    found = [
        call_that_passes(node, user)
        for user in _takers(side, operand)
        if operand.op == "input" and user is not node and side.is_known(user)
        # What is computed more often here than there is computed in place of something else.
        if side.count[side.name_of[user]] <= other.count[side.name_of[user]]
    ]
    return min(found, default=default)


def _takers(side: Side, operand: Node) -> list[Node]:
    """What takes a value, as it is, spread, or as an index that may count from the end."""
    same, found = {operand}, [operand]
    for node in found:
        for user in side.users[node] if node in same else ():
            if user in found:
                continue
            alone = all(arg in same or arg.op == "constant" for arg, _ in user.args)
            if user.op in _SPREADS or (alone and _is_of_index(user)):
                same.add(user)
            found.append(user)
    return [node for node in found if node not in same]


def _index(chosen: Node) -> Node | None:
    """The index `i` of `select_n(i < 0, i, i + n)`."""
    if len(chosen.args) != 3:
        return None
    is_negative, index, moved = (arg for arg, _ in chosen.args)
    is_of_one = all(node.args and node.args[0][0] is index for node in (is_negative, moved))
    return index if is_of_one and all(map(_is_of_index, (chosen, is_negative, moved))) else None


def _is_of_index(node: Node) -> bool:
    """Whether it may be a part of `select_n(i < 0, i, i + n)`, as JAX takes an index `i`."""
    is_number = np.issubdtype(node.avals[0].dtype, np.floating)
    return node.op in ("lt", "add", "select_n") and not is_number
