"""What the call of one side alone leaves: a loss that it sows, a weight that it overwrites."""

from collections.abc import Iterable

from shared.program.graph import Graph, Node, Value
from shared.program.source import Place, users_place
from shared.report.result import Divergence, Spot
from shared.verification.locate.spot import layers_of, operation_of, use_of
from shared.verification.locate.written import sown_at, written_at
from shared.verification.ported import Ported
from shared.verification.programs import Program


def remark_of_what_is_left(ported: Ported) -> str:
    """What one side alone leaves behind, and the line that does; "" if there is nothing."""
    outputs = ported.outputs
    if outputs.changed:
        return f"NNX changes weights in the call: {', '.join(outputs.changed)}"
    if not outputs.linen_only:
        return ""
    path = (outputs.lost or outputs.linen_only)[0]
    place, is_sown = _left_at(ported.linen_program, path)
    verb = "sows" if is_sown else "returns"
    where = f" ({place})" if place else ""
    more = f" and {len(outputs.linen_only) - 1} more" if len(outputs.linen_only) > 1 else ""
    return f"only Linen {verb} {path}{where}{more}"


def place_of_what_is_left(ported: Ported) -> Divergence | None:
    """The statement that leaves it, and where the other side has nothing of the kind."""
    outputs = ported.outputs
    linen, nnx = ported.programs
    if outputs.changed:
        path = outputs.changed[0]
        node = _values(nnx)[path][0]
        place = written_at(nnx.graph, node, _name(path))
        used = _use_in_linen(ported, path)
        return Divergence(f"NNX overwrites {path}, Linen does not", used, _spot(node, place))
    if outputs.lost:
        path = outputs.lost[0]
        node = _values(linen)[path][0]
        place, is_sown = _left_at(linen, path)
        what = f"Linen {'sows' if is_sown else 'returns'} {path}, NNX does not"
        return Divergence(what, _spot(node, place), _where_it_would_stand(ported, node))
    return None


def _left_at(program: Program, path: str) -> tuple[Place | None, bool]:
    """(the statement that leaves a value, whether that sows it)."""
    node = _values(program)[path][0]
    sown = sown_at(program.graph, node, _name(path))
    return sown or users_place(node.stack), sown is not None


def _values(program: Program) -> dict[str, Value]:
    return dict(zip(program.outputs, program.graph.outputs, strict=True))


def _name(path: str) -> str:
    """The name that a variable has in its module; what is behind it are places in its value."""
    return [word for word in path.split("/") if not word.isdigit()][-1]


def _use_in_linen(ported: Ported, path: str) -> Spot | None:
    graph = ported.linen_program.graph
    views = [entry.linen for entry in ported.entries if entry.nnx.leaf == path]
    nodes = [node for view in views if (node := graph.view_of(view))]
    return use_of(graph, nodes[0]) if nodes else None


def _where_it_would_stand(ported: Ported, node: Node) -> Spot | None:
    """The statement of NNX that computes the last of what `node` is made of."""
    linen, nnx = (program.graph for program in ported.programs)
    names = ported.value_names(0, linen), ported.value_names(1, nnx)
    twins = {names[1][each]: each for each in reversed(nnx.nodes)}
    made_of = sorted(_ancestors([node]), key=lambda each: each.number, reverse=True)
    for each in made_of:
        twin = twins.get(names[0][each])
        if twin is not None and twin.op != "constant":
            spot = _spot(twin) or use_of(nnx, twin)
            if spot is not None:
                return spot
    return _last(nnx)


def _last(graph: Graph) -> Spot | None:
    return next((spot for node, _ in graph.outputs if (spot := _spot(node))), None)


def _ancestors(nodes: Iterable[Node]) -> set[Node]:
    found: set[Node] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += [arg for arg, _ in node.args]
    return found


def _spot(node: Node, place: Place | None = None) -> Spot | None:
    place = place or users_place(node.stack)
    if place is None:
        return None
    return Spot(place.file, place.line, place.source, operation_of(node), layers_of(node), "")
