"""Which operation of one program stands against which of the other, and what to say of it."""

from collections.abc import Mapping, Sequence

import numpy as np

from shared.locate.choice import place_of_choice, wrong_layer
from shared.locate.hypothesis import Follower
from shared.locate.side import Side
from shared.locate.spot import Divergence, name_of, spot
from shared.locate.values import same_in_place
from shared.program.canonical import Names, params_that_matter
from shared.program.graph import Node, Value, constant_value, is_start
from shared.program.view import View

# How far what is made of an operation is followed.
_NEAR = 6


def describe(
    a: Side,
    b: Side,
    parted: Sequence[tuple[Node, Node]],
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
    in_linen = a.frontier([i for i, _ in parted])
    in_nnx = b.frontier([k for _, k in parted])
    x, y = _matching(a, in_linen, b, in_nnx)
    if x is not None and y is not None:
        found = Follower(a, b, names, outputs).explain(x, y)
        if found.lacking == "nnx":
            y = None
        elif found.lacking == "linen":
            x = None
    if x is not None and y is not None:
        if wrong := wrong_layer(a, x, b, y, counterpart):
            what = f"{wrong[0]} in Linen, {wrong[1]} in NNX"
            places = place_of_choice(x, wrong[0]), place_of_choice(y, wrong[1])
            return Divergence(what, spot(a, x, places[0]), spot(b, y, places[1]))
        x, y = _rearranged(a, x, b, y)
        return Divergence(reason(x, y), spot(a, x), spot(b, y))
    if x is not None:
        what = f"Linen computes {name_of(x)}, NNX has nothing in its place"
        return Divergence(what, spot(a, x), spot(b, _place_for(a, x, b)))
    if y is not None:
        what = f"NNX computes {name_of(y)}, Linen has nothing in its place"
        return Divergence(what, spot(a, _place_for(b, y, a)), spot(b, y))
    one, other = parted[0]
    return Divergence("the outputs differ", spot(a, one), spot(b, other))


def _matching(
    a: Side, in_linen: Sequence[Node], b: Side, in_nnx: Sequence[Node]
) -> tuple[Node | None, Node | None]:
    """The first operations of both programs that work on one value that both have.

    Where the first of one shares no value with any of the other, what is done with it may: a weight
    that only one program uses is first multiplied, then added to what both have.
    """
    best: tuple[int, Node, Node] | None = None
    for x in in_linen:
        for i, u in enumerate(_onward(a, x)):
            shared = _shared(a, u, b)
            for y in in_nnx:
                for k, v in enumerate(_onward(b, y)):
                    near = best is None or i + k < best[0]
                    if near and any(arg in shared for arg, _ in v.args):
                        best = (i + k, u, v)
        if best is not None:
            return best[1], best[2]
    return next(iter(in_linen), None), None if in_linen else next(iter(in_nnx), None)


def _onward(side: Side, node: Node) -> list[Node]:
    """`node`, and what is made of it, nearest first, as far as the other program lacks it."""
    found: list[Node] = []
    todo = [node]
    while todo and len(found) < _NEAR:
        here = todo.pop(0)
        if here not in found:
            found.append(here)
            todo += [user for user in side.users[here] if not side.is_known(user)]
    return found


def _shared(a: Side, node: Node, b: Side) -> set[Node]:
    """The values of `b` that are the same as an operand of `node`, and no constants."""
    operands = [arg for arg, _ in node.args if arg.op != "constant" and arg not in a.numbers]
    names = {a.up[arg] for arg in operands}
    twins = {a.twin[arg] for arg in operands if arg in a.twin}
    return twins | {n for n in b.graph.nodes if b.up[n] in names and n.op != "constant"}


def _rearranged(a: Side, x: Node, b: Side, y: Node) -> tuple[Node, Node]:
    """Back to where equal numbers come in another arrangement, if that is what differs."""
    while x.op == y.op and len(x.args) == len(y.args):
        for (p, i), (q, k) in zip(x.args, y.args, strict=True):
            if is_start(p) or is_start(q) or a.up[p] == b.up[q]:
                continue
            one, other = a.values[p][i], b.values[q][k]
            if a.is_near(p, q, b) and not same_in_place(one, other, float(np.abs(one).max())):
                x, y = p, q
                break
        else:
            break
    return x, y


def _place_for(a: Side, x: Node, b: Side) -> Node | None:
    """What in `b` comes before the operation `x` that `b` lacks."""
    for node in _onward(a, x):
        twins = [a.twin[arg] for arg, _ in node.args if arg in a.twin]
        computed = [twin for twin in twins if not is_start(twin)]
        if computed:
            return max(computed, key=lambda twin: twin.number)
    twins = [a.twin[arg] for arg, _ in x.args if arg in a.twin]
    return max(twins, key=lambda twin: twin.number, default=None)


def only_in_gradients(a: Side, b: Side) -> Divergence | None:
    """What shows in the gradients alone: one that is stopped, a constant that later values hide."""

    def unmatched(one: Side, other: Side) -> tuple[Node, Node] | None:
        for node in one.graph.nodes:
            if node.op == "stop_gradient" and node.args[0][0] in one.twin:
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
        return Divergence(reason(x, y), spot(a, x), spot(b, y))
    return None


def reason(x: Node, y: Node) -> str:
    if x.op != y.op:
        return f"{name_of(x)} in Linen, {name_of(y)} in NNX"
    first, second = params_that_matter(x), params_that_matter(y)
    changed = [
        f"{key}={first.get(key)} in Linen, {second.get(key)} in NNX"
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
