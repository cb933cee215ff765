"""What the lifts of two programs are told in which they differ: directions and axes."""

from collections.abc import Sequence

from shared.program.canonical import not_reshaped
from shared.program.graph import Node
from shared.program.lifts import told
from shared.program.source import Place, users_place
from shared.verification.locate.statement import loop

_AXES = {"vmap": ("out_axes", "in_axes"), "scan": ("out_axes", "in_axes", "variable_axes")}


def directions(x: Node, y: Node) -> tuple[Place | None, Place | None] | None:
    """Where the scans of two operations are told to run in other directions, if they do."""
    if _runs_back(x) == _runs_back(y):
        return None
    return told_direction(x), told_direction(y)


def _runs_back(node: Node) -> bool:
    return any(iteration.is_reversed for iteration in node.layer)


def told_direction(node: Node) -> Place | None:
    """The line that tells a scan its direction; its call where no such line is known."""
    if not node.layer:
        return loop(node)
    scan = next((each for each in node.layer if each.is_reversed), node.layer[0])
    return scan.place and (told(scan.place, "scan", ("reverse",)) or scan.place)


def other_axes(moved: Node, other: Node) -> tuple[Place, Place] | None:
    """Where the lifts that two values come from are told their axes.

    Args:
      moved: an operation that moves axes; None where that is not what a lift does by itself.
      other: what the other program has in front of where it does not move them.
    """
    place = users_place(moved.stack)
    if moved.op != "transpose" or place is None:
        return None
    calls = [each for each in not_reshaped(other).stack if each.is_users]
    places = _told_axes([place]), _told_axes(calls)
    return (places[0], places[1]) if places[0] and places[1] else None


def _told_axes(calls: Sequence[Place]) -> Place | None:
    """The line that tells a lift its axes, the innermost of those called at `calls`."""
    found = (told(call, lift, words) for call in calls for lift, words in _AXES.items())
    return next((place for place in found if place), None)
