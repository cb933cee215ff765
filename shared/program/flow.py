"""What is done with each value, as names: equal in two programs where the same is done with it.

Each function names the pieces of the weights by another part of the program around them.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping

from shared.program.canonical import Names, label, value_names
from shared.program.graph import Graph, Node
from shared.program.jax_programs import COMMUTATIVE

# Of how many operands or results an operation may have, the bits.
_PLACES = 32
LeafName = Callable[[Node], Hashable]


def by_flow(names: Names, graph: Graph, leaf_name: LeafName) -> dict[Node, Hashable]:
    """Each piece's name by all that leads to its uses, and all that follows.

    Where nothing differs, that is the same.

    Args:
      names: shared between the programs that are compared.
      graph: a program.
      leaf_name: the name of a leaf, or of a slice of one.
    """
    name_of = value_names(names, graph, leaf_name)
    used = _by_use(names, graph, name_of)
    return {node: (name_of[node], used[node]) for node in graph.views}


def by_upstream(names: Names, graph: Graph, leaf_name: LeafName) -> dict[Node, Hashable]:
    """Each piece's name by the operations that take it, each with all its operands.

    Before the place where the programs part, that is the same. Args: as `by_flow`.
    """
    used = _by_operands(names, graph, value_names(names, graph, leaf_name))
    return {node: used[node] for node in graph.views}


def by_downstream(names: Names, graph: Graph, leaf_name: LeafName) -> dict[Node, Hashable]:
    """Each piece's name by all that follows.

    Behind the place where the programs part, that is the same. Args: as `by_flow`.
    """
    labels = {
        node: names("leaf", leaf_name(node)) if node in graph.views else label(names, node)
        for node in graph.nodes
    }
    used = _by_use(names, graph, labels)
    return {node: (labels[node], used[node]) for node in graph.views}


def by_neighbourhood(
    names: Names, graph: Graph, leaf_name: LeafName, rounds: int
) -> list[dict[Node, int]]:
    """Each value's name by its neighbourhood: operations 0, 1 ... `rounds` steps away, both ways.

    Source: colour refinement, also known as the Weisfeiler-Leman algorithm.
    """
    colour = {
        node: names("leaf", leaf_name(node))
        if node in graph.views or node.op == "leaf"
        else label(names, node)
        for node in graph.nodes
    }
    consumers: dict[Node, list[tuple[Node, int]]] = defaultdict(list)
    for node in graph.nodes:
        for position, (arg, _) in enumerate(node.args):
            consumers[arg].append((node, 0 if node.op in COMMUTATIVE else position))
    neighbours = [
        (node, node.args, node.op in COMMUTATIVE, consumers[node]) for node in graph.nodes
    ]
    colours = [colour]
    for _ in range(rounds):
        before, colour = colour, {}
        for node, args, any_order, users in neighbours:
            # Colour and place in one number: there are a million of them in a large model.
            operands = [before[arg] << _PLACES | which for arg, which in args]
            used = [before[user] << _PLACES | position for user, position in users]
            operands.sort() if any_order else None
            used.sort()
            colour[node] = names(before[node], *operands, "used", *used)
        colours.append(colour)
    return colours


def _by_operands(names: Names, graph: Graph, name_of: Mapping[Node, int]) -> dict[Node, int]:
    """Each value's name by the operations that take it, each with all its operands.

    What is only a form of one weight, reshaped or cast, says nothing yet: its uses do.
    """
    alone: set[Node] = set()
    for node in graph.nodes:
        sources = [arg for arg, _ in node.args if arg.op != "constant"]
        if node in graph.views or (len(sources) == 1 and sources[0] in alone):
            alone.add(node)
    found: dict[Node, list[Hashable]] = defaultdict(list)
    named: dict[Node, int] = {}
    for node in reversed(graph.nodes):
        named[node] = names("uses", *sorted(found[node], key=repr))
        for position, (arg, _) in enumerate(node.args):
            place = 0 if node.op in COMMUTATIVE else position
            further = named[node] if node in alone else -1
            found[arg].append((name_of[node], place, further))
    return named


def _by_use(names: Names, graph: Graph, name_of: Mapping[Node, int]) -> dict[Node, int]:
    """Each value's name by what becomes of it, on the way to which outputs.

    Args:
      name_of: a name for each operation: with its operands (`value_names`), or alone (`label`).
    """
    uses: dict[Node, list[Hashable]] = defaultdict(list)
    roles = graph.roles or range(len(graph.outputs))
    for role, (node, which) in zip(roles, graph.outputs, strict=True):
        uses[node].append((-1, role, which))
    for carry, (node, which) in graph.feeds.items():
        uses[node].append((-2, name_of[carry], which))
    use_name: dict[Node, int] = {}
    for node in reversed(graph.nodes):
        use_name[node] = names("used", *sorted(uses[node], key=repr))
        for position, (arg, which) in enumerate(node.args):
            place = 0 if node.op in COMMUTATIVE else position
            uses[arg].append((name_of[node], place, which, use_name[node]))
    return use_name
