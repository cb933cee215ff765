"""What is said where one program has operations that the other has not, and where they would be."""

from collections.abc import Mapping

from shared.program.canonical import not_reshaped, only_reshapes
from shared.program.graph import Node, depends_on_weights, is_made_of_constants
from shared.program.source import Place
from shared.program.syntax import is_returned, return_behind
from shared.program.view import View
from shared.report.result import Divergence
from shared.verification.locate.follow import Parting
from shared.verification.locate.layers import skipped_layer
from shared.verification.locate.lifted import other_axes
from shared.verification.locate.never_sown import never_sown
from shared.verification.locate.side import Side
from shared.verification.locate.spot import operation_of, spot
from shared.verification.locate.statement import calls, gap, gap_in_rest, loops_around, statement
from shared.verification.locate.turns import longer
from shared.verification.locate.values import same_in_place, size_of


def what_one_lacks(
    a: Side, b: Side, found: Parting, counterpart: Mapping[View, View]
) -> Divergence:
    """One program has operations that the other has not."""
    x, y = found.linen, found.nnx
    one, other = found.linen_next, found.nnx_next
    # A helper may reshape what it is given.
    source = found.source and not_reshaped(found.source)
    sides = (a, x, found.source, b) if found.lacking == "nnx" else (b, y, found.source, a)
    if lost := never_sown(*sides):
        return lost[0] if found.lacking == "nnx" else lost[1]
    if turns := longer(a, x, b) if found.lacking == "nnx" else longer(b, y, a):
        places = turns if found.lacking == "nnx" else turns[::-1]
        more, less = ("Linen", "NNX") if found.lacking == "nnx" else ("NNX", "Linen")
        what = f"a loop of {more}'s has more turns than that of {less}"
    elif found.lacking == "nnx":
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
    if nothing := _adds_nothing(side, having, source):
        return statement(nothing, lacking_next, source)
    of_weights = depends_on_weights(side.graph, source)
    combination = None if of_weights else _combination(side, source)
    in_rest = None if of_weights else gap_in_rest(having, having_source, source, combination)
    if place := _last_turn(having, having_source, source) or in_rest:
        return place
    place = gap(having, having_next, having_source, lacking_next, source)
    return _in_the_return(having, place, source) or place


def _in_the_return(having: Node, place: Place | None, source: Node) -> Place | None:
    """The `return` behind what makes `source`, where the other program does more in its own."""
    here, makers = calls(having)[-1:], calls(source)[-1:]
    if not here or place is None or place not in makers:
        return None
    line = (
        return_behind(place.file, place.line) if is_returned(here[0].file, here[0].line) else None
    )
    return Place(place.file, line, place.function) if line else None


def _adds_nothing(side: Side, having: Node, source: Node) -> Node | None:
    """What does to `source` what the other program does, with numbers that change nothing."""
    adds_numbers = is_made_of_constants(having)
    users = (
        user
        for user in side.users[source]
        if user.avals
        if user.op == having.op or (adds_numbers and any(arg in side.fixed for arg, _ in user.args))
    )
    value = side.values[source][0]
    size = size_of(value)
    return next((u for u in users if same_in_place(side.values[u][0], value, size)), None)


def _last_turn(having: Node, having_source: Node | None, source: Node) -> Place | None:
    """The loop whose last turn makes `source`, where the other program takes the same step again.

    One statement makes `having` of `having_source`, as the loop makes `source` of what was before.
    """
    source = not_reshaped(source)
    lines = calls(source)[-1:]
    turns = [arg for arg, _ in source.args if arg.op == source.op and calls(arg)[-1:] == lines]
    if not turns or source.op != having.op or calls(having)[-1:] != calls(having_source)[-1:]:
        return None
    loops = loops_around(lines[0])
    return Place(lines[0].file, loops[0], lines[0].function) if loops else None


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
