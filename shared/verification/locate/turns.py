"""Two loops that begin alike, and the values of the first turn in which they part."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp

from shared.program.evaluate import Values, computed_again
from shared.program.graph import Layer, Node, Turn, Value
from shared.program.source import Place, users_place
from shared.verification.locate.side import Side
from shared.verification.locate.values import same_constant, same_in_place, size_of

# How many turns are looked into, and how many of them may be after the last: numbers of another
# sample reach them.
_TURNS = 30
_OVER = 4


class Parted(NamedTuple):
    """A turn in which two loops part.

    Attributes:
      linen: all values of Linen's program, with the carries of that turn for those that the loop
        starts with; nnx: the same of NNX's.
      pairs: what the loops compute in that turn that should be equal and is not.
    """

    linen: Values
    nnx: Values
    pairs: list[tuple[Value, Value]]


def parted_turn(a: Side, b: Side) -> Parted | None:
    """The first turn in which two loops part that go on from the same carries."""
    loops = [[n for n in side.graph.nodes if n.turn is not None] for side in (a, b)]
    if len(loops[0]) != len(loops[1]):
        return None
    found = (_parted(a, one, b, other) for one, other in zip(*loops, strict=True))
    return next((each for each in found if each), None)


def started(a: Side, x: Node, b: Side, y: Node) -> tuple[Place | None, Place | None]:
    """The calls of the loops that start with the constants in which `x` and `y` differ, if any."""
    for (p, _), (q, _) in zip(x.args, y.args, strict=False):
        if p.op == q.op == "constant" and not same_constant(p, q):
            places = _loop_from(a, p), _loop_from(b, q)
            if all(places):
                return places
    return None, None


def _loop_from(side: Side, start: Node) -> Place | None:
    """The call of the loop that has a carry that starts with `start`."""
    for loop in side.graph.nodes:
        if loop.turn and any(start is node for node, _ in loop.turn.starts):
            return users_place(loop.stack)
    return None


def _parted(a: Side, one: Node, b: Side, other: Node) -> Parted | None:
    first, second = _turn(one), _turn(other)
    if not (_starts_apart(first) and _starts_apart(second)):
        return None
    if _carries_key(a, first) or _carries_key(b, second):
        return None
    pairs = _pairs(a, first, b, second)
    results = [(first.goes_on, second.goes_on)]
    results += [(first.results[i], second.results[k]) for i, k in pairs]
    changed: tuple[Values, Values] = {}, {}
    over = 0
    for _ in range(_TURNS):
        linen, nnx = _again(a, changed[0], one.number), _again(b, changed[1], other.number)
        parted = [(p, q) for p, q in results if not _same(_of(linen, p), _of(nnx, q))]
        if parted:
            return Parted(_again(a, changed[0]), _again(b, changed[1]), parted)
        over += not bool(_of(linen, first.goes_on))
        if over > _OVER:
            return None
        next_linen = {first.starts[i]: _of(linen, first.results[i]) for i in _changing(first)}
        next_nnx = {second.starts[k]: _of(nnx, second.results[k]) for k in _changing(second)}
        # Both go on with the same numbers.
        next_nnx |= {second.starts[k]: next_linen[first.starts[i]] for i, k in pairs}
        changed = _with(a, next_linen), _with(b, next_nnx)
    return None


def _turn(node: Node) -> Turn:
    assert node.turn is not None
    return node.turn


def _pairs(a: Side, first: Turn, b: Side, second: Turn) -> list[tuple[int, int]]:
    """The carries of two loops that start with the same; Linen's own loop counts its turns too."""

    def is_flax(i: int) -> bool:
        stack = first.results[i][0].stack
        return bool(stack) and stack[0].is_flax

    left = list(_changing(second))
    pairs = []
    for i in sorted(_changing(first), key=is_flax):
        x = _of(a.values, first.starts[i])
        like = [k for k in left if _same(x, _of(b.values, second.starts[k]))]
        if like:
            pairs.append((i, like[0]))
            left.remove(like[0])
    return pairs


def _starts_apart(turn: Turn) -> bool:
    """Whether no two carries start with one value, of which nothing else can be said."""
    nodes = [turn.starts[i][0] for i in _changing(turn)]
    return len(set(nodes)) == len(nodes)


def _carries_key(side: Side, turn: Turn) -> bool:
    """Whether a turn changes a key: keys are compared by what is drawn, and have no values."""
    return any(
        node not in side.values and "value" not in node.params
        for i in _changing(turn)
        for node, _ in (turn.starts[i], turn.results[i])
    )


def _changing(turn: Turn) -> Iterator[int]:
    """Those carries that a turn changes."""
    for i, (start, result) in enumerate(zip(turn.starts, turn.results, strict=True)):
        if start != result:
            yield i


def _of(values: Values, value: Value) -> Any:
    node, which = value
    # A constant of which only casts are left is not in the program.
    return values[node][which] if node in values else jnp.asarray(node.params["value"])


def _same(x: Any, y: Any) -> bool:
    return same_in_place(x, y, size_of(x))


def _with(side: Side, carries: dict[Value, Any]) -> Values:
    """The results of the nodes in `carries`, with those values."""
    changed = {node: list(side.values.get(node, (None,))) for node, _ in carries}
    for (node, which), value in carries.items():
        changed[node][which] = value
    return {node: tuple(results) for node, results in changed.items()}


def _again(side: Side, changed: Values, end: int | None = None) -> Values:
    """All values with those in `changed`, computed again up to the operation `end`."""
    again = computed_again(side.graph.nodes[:end], side.values, changed, side.casts)
    return {**side.values, **again}


def started_with(
    x: Node, p: Node, a: Side, y: Node, q: Node, b: Side
) -> tuple[Place | None, Place | None] | None:
    """The calls of the loops whose carries start with `p` and `q`, which `x` and `y` take first."""
    if _is_carried(a, x, p) and _is_carried(b, y, q):
        return x.layer[-1].place, y.layer[-1].place
    return None


def _is_carried(side: Side, node: Node, operand: Node) -> bool:
    """Whether the same operation in the next turn takes what this turn computes for `operand`."""
    at = next((i for i, (arg, _) in enumerate(node.args) if arg is operand), None)
    if at is None or not node.layer or operand.layer == node.layer:
        return False
    *outer, turn = node.layer
    following = turn._replace(number=turn.number + (-1 if turn.is_reversed else 1))
    here, there = (
        [each for each in side.graph.nodes if _is_there(each, node, (*outer, which))]
        for which in (turn, following)
    )
    taken = there[here.index(node)].args[at][0] if len(here) == len(there) else None
    return taken is not None and taken.layer == node.layer


def _is_there(node: Node, like: Node, layer: Layer) -> bool:
    """Whether it is what `like` is, in another turn."""
    return node.op == like.op and node.stack == like.stack and node.layer == layer


def longer(side: Side, node: Node, other: Side) -> tuple[Place | None, Place | None] | None:
    """The loops of both sides, where `node` is in a turn of `side` that the other has none of."""
    for depth, turn in enumerate(node.layer):
        mine = [each for each in _in_loop(side, depth, turn.place) if each in side.twin]
        twins = [side.twin[each] for each in mine if len(side.twin[each].layer) > depth]
        places = [twin.layer[depth].place for twin in twins]
        if places and turn.number >= _count(other, depth, places[0]):
            return turn.place, places[0]
    return None


def _in_loop(side: Side, depth: int, place: Place | None) -> Iterator[Node]:
    """The operations in a loop that is `depth` loops deep."""
    for node in side.graph.nodes:
        if len(node.layer) > depth and node.layer[depth].place == place:
            yield node


def _count(side: Side, depth: int, place: Place | None) -> int:
    """How many turns a loop has."""
    return len({node.layer[depth].number for node in _in_loop(side, depth, place)})
