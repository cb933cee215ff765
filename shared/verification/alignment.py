"""Two programs side by side: which lines of the sources compute the same."""

import collections
import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from shared.program.canonical import Names, label, value_names_of_all
from shared.program.graph import Graph, Node, is_start
from shared.program.source import Place, users_place
from shared.report.result import MAX_OPERATIONS, Row
from shared.weights.entry import Entry, leaf_names


def align(linen: Graph, nnx: Graph, entries: Sequence[Entry]) -> list[Row]:
    """The two programs line by line, the first `MAX_OPERATIONS` operations of each."""
    names = Names()
    graphs = (linen, nnx)
    leaves = [leaf_names(entries, graph, graph is linen) for graph in graphs]
    sides = []
    for graph, name_of in zip(graphs, value_names_of_all(names, graphs, leaves), strict=True):
        nodes = [node for node in graph.nodes if not is_start(node)][:MAX_OPERATIONS]
        # With the weights that it takes, for layers are alike but for their weights.
        labels = {
            node: (
                label(names, node),
                *(name_of[arg] for arg, _ in node.args if arg in graph.views),
            )
            for node in nodes
        }
        sides.append((nodes, name_of, labels))
    (first, one, first_labels), (second, other, second_labels) = sides
    partner = _same(first, one, second, other)
    left = [node for node in second if node not in partner.values()]
    partner |= _alike(
        [node for node in first if node not in partner], first_labels, left, second_labels
    )
    pairs: list[_Pair] = []
    waiting = [node for node in second if node not in partner.values()]
    for x in first:
        y = partner.get(x)
        while y and waiting and waiting[0].number < y.number:
            pairs.append((None, waiting.pop(0), "only here"))
        status = "only here" if y is None else "same" if one[x] == other[y] else "other values"
        pairs.append((x, y, status))
    pairs += [(None, y, "only here") for y in waiting]
    return [_row(list(group)) for _, group in itertools.groupby(pairs, key=_lines)]


_Pair = tuple[Node | None, Node | None, str]


def _same(
    first: Sequence[Node], one: dict[Node, int], second: Sequence[Node], other: dict[Node, int]
) -> dict[Node, Node]:
    """What is computed from the same values in the same way, in any order."""
    waiting: dict[int, collections.deque[Node]] = collections.defaultdict(collections.deque)
    for y in second:
        waiting[other[y]].append(y)
    return {x: waiting[one[x]].popleft() for x in first if waiting[one[x]]}


def _alike(
    first: Sequence[Node],
    first_labels: Mapping[Node, tuple[int, ...]],
    second: Sequence[Node],
    second_labels: Mapping[Node, tuple[int, ...]],
) -> dict[Node, Node]:
    """What is left, by the longest runs of the same operations in the same order."""
    words = [first_labels[x] for x in first], [second_labels[y] for y in second]
    matcher = difflib.SequenceMatcher(None, *words, autojunk=False)
    pairs = {
        first[i + n]: second[k + n]
        for i, k, size in matcher.get_matching_blocks()
        for n in range(size)
    }
    # What takes a weight is found in any order.
    taken = set(pairs.values())
    users = {second_labels[y]: y for y in second if y not in taken and len(second_labels[y]) > 1}
    pairs |= {
        x: users.pop(first_labels[x]) for x in first if x not in pairs and first_labels[x] in users
    }
    return pairs


def _lines(pair: _Pair) -> tuple[Any, ...]:
    x, y, status = pair
    return status == "only here", _place(x), _place(y)


def _place(node: Node | None) -> Place | None:
    place = users_place(node.stack) if node else None
    return place and Place(place.file, place.line, place.function)


def _row(group: list[_Pair]) -> Row:
    _, linen, nnx = _lines(group[0])
    statuses = {status for *_, status in group}
    status = statuses.pop() if len(statuses) == 1 else "other values"
    nodes = [node for x, y, _ in group if (node := x or y)]
    shape = tuple(nodes[-1].avals[0].shape) if nodes[-1].avals else ()
    return Row(status, linen, nnx, tuple(node.op for node in nodes), shape)
