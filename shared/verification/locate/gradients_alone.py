"""Where two programs part whose values are the same, and whose gradients are not."""

from typing import Any

from shared.program.canonical import not_reshaped, only_reshapes
from shared.program.graph import Node, has_gradient
from shared.program.jax_programs import FLAT
from shared.program.source import Place
from shared.report.result import Divergence
from shared.verification.locate.apart import apart
from shared.verification.locate.side import Side
from shared.verification.locate.spot import spot
from shared.verification.locate.statement import gap


def only_in_gradients(a: Side, b: Side) -> Divergence | None:
    """What shows in the gradients alone: one that is stopped, a constant that later values hide."""

    def unmatched(one: Side, other: Side) -> tuple[Node, Node] | None:
        found = []
        for node in one.graph.nodes:
            stops = node.op == "stop_gradient" and node in one.compared
            if stops and node.args[0][0] in one.twin:
                twin = one.twin[node.args[0][0]]
                if not (_is_stopped(other, twin) or _stops(other, one.marks[node])):
                    found.append((node, twin))
        # One that stops nothing, as of a comparison, is no difference beside another.
        stopping = [pair for pair in found if has_gradient(one.graph, pair[0].args[0][0])]
        return next(iter([*stopping, *found]), None)

    if found := unmatched(b, a):
        return Divergence(
            "NNX stops the gradient, Linen does not",
            spot(a, found[1], _not_stopped(a, found[1], b, found[0])),
            spot(b, found[0]),
        )
    if found := unmatched(a, b):
        return Divergence(
            "Linen stops the gradient, NNX does not",
            spot(a, found[0]),
            spot(b, found[1], _not_stopped(b, found[1], a, found[0])),
        )
    for does, which in (
        ("stops the gradient", _stopped_for_one),
        ("leads the gradient around a value", _led_around),
    ):
        if found := which(b, a):
            what = f"NNX {does}, Linen does not"
            return Divergence(what, spot(a, found[1]), spot(b, found[0]))
        if found := which(a, b):
            what = f"Linen {does}, NNX does not"
            return Divergence(what, spot(a, found[0]), spot(b, found[1]))
    if a.suspects:
        x, y = min(a.suspects, key=lambda pair: pair[0].number)
        return apart(a, x, b, y)
    return None


def _is_stopped(side: Side, node: Node) -> bool:
    """Whether the gradient of a value is stopped somewhere, however it is reshaped before."""
    forms = [not_reshaped(node)]
    for form in forms:
        if any(user.op == "stop_gradient" for user in side.users[form]):
            return True
        forms += [user for user in side.users[form] if only_reshapes(user)]
    return False


def _stops(side: Side, marks: list[Any]) -> bool:
    """Whether a gradient is stopped by a value of these marks, which may be computed twice."""
    stops = [n for n in side.graph.nodes if n.op == "stop_gradient" and n in side.compared]
    pairs = [(marks[0], side.marks[node][0]) for node in stops]
    return any(one and other and side.near_marks(one, other) for one, other in pairs)


def _stopped_for_one(side: Side, other: Side) -> tuple[Node, Node] | None:
    """A stop of a value that is stopped elsewhere too, and what takes the value as it is there."""
    there = _with_gradient(other)
    for stop in side.graph.nodes:
        if stop.op != "stop_gradient" or stop not in side.compared:
            continue
        stopped = side.twin.get(not_reshaped(stop.args[0][0]))
        for taker in side.users[stop]:
            twin = side.twin.get(taker)
            if not (stopped and twin in there and twin.op == taker.op):
                continue
            if any(not_reshaped(arg) is not_reshaped(stopped) for arg, _ in twin.args):
                return stop, twin
    return None


def _with_gradient(side: Side) -> set[Node]:
    """What a gradient of the outputs reaches."""
    found = {node for node, _ in side.graph.outputs}
    for node in reversed(side.graph.nodes):
        if node in found and node.op not in FLAT:
            found.update(arg for arg, _ in node.args)
    return found


def _led_around(side: Side, other: Side) -> tuple[Node, Node] | None:
    """A stop as in `x + stop_gradient(f(x) - x)`, and the value that the other has of it."""
    stops, fewer = (
        [node for node in each.graph.nodes if node.op == "stop_gradient" and node in each.compared]
        for each in (side, other)
    )
    for stop in stops if len(stops) > len(fewer) else ():
        made = next((user for user in side.users[stop] if user in side.twin), None)
        if made is not None and stop.args[0][0] not in side.twin:
            return stop, side.twin[made]
    return None


def _not_stopped(side: Side, node: Node, other: Side, stopped: Node) -> Place | None:
    """Where the gradient by a value is not stopped, as it is on the other side."""
    behind = next(iter(other.users[stopped]), None)
    beside = (
        {other.twin.get(arg) for arg, _ in behind.args if arg is not stopped} if behind else set()
    )
    taking = [user for user in side.users[node] if behind and user.op == behind.op]
    taking.sort(key=lambda user: beside.isdisjoint(arg for arg, _ in user.args))
    return gap(stopped, behind, stopped.args[0][0], next(iter(taking), None), node)
