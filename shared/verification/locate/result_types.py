"""Where two programs compute in other types: a product that stays in float32, one that does not."""

import difflib

from shared.program.evaluate import Values
from shared.program.graph import Graph, Node, is_start
from shared.program.source import users_place
from shared.report.result import Divergence, Spot
from shared.verification.locate.rounding import in_other_precision
from shared.verification.locate.spot import layers_of, operation_of
from shared.verification.ported import Ported
from shared.verification.programs import is_output

_CAST = "convert_element_type"


def result_types_apart(ported: Ported) -> Divergence | None:
    """The first operation of both whose results are of other types, where outputs are.

    That is looked for among operations of one kind and shape, in the order of the programs; if
    there is none, an output has been cast on one side alone.
    """
    outputs = [
        dict(zip(program.outputs, program.graph.outputs, strict=True))
        for program in ported.programs
    ]
    apart = [
        (one, outputs[1][path])
        for path, one in outputs[0].items()
        if is_output(path) and path in outputs[1]
        if _dtype(*one) != _dtype(*outputs[1][path])
    ]
    if not apart:
        return None
    linen, nnx = (
        _leading_to(program.graph, {pair[side][0] for pair in apart})
        for side, program in enumerate(ported.programs)
    )
    kinds = [operation_of(node) for node in linen], [operation_of(node) for node in nnx]
    matcher = difflib.SequenceMatcher(None, kinds[0], kinds[1], autojunk=False)
    blocks = matcher.get_matching_blocks()
    pairs = [(linen[i + n], nnx[k + n]) for i, k, size in blocks for n in range(size)]
    for x, y in [*pairs, *((one, other) for (one, _), (other, _) in apart)]:
        if _dtype(x, 0) != _dtype(y, 0):
            return _apart(x, y)
    return None


def computed_in_other_types(
    graphs: tuple[Graph, Graph], exact: tuple[Values, Values]
) -> Divergence | None:
    """The first operation of both that has another type, where rounding is all that differs.

    Args:
      graphs: of Linen and of NNX.
      exact: their values where no cast rounds.
    """
    found = in_other_precision(graphs[0], exact[0], graphs[1], exact[1])
    if found is None:
        return None
    return _apart(*(_cast_before(*found) or found))


def _apart(x: Node, y: Node) -> Divergence:
    there = "" if x.op == y.op else f"{y.op} "
    reason = f"{x.op} {_dtype(x, 0)} in Linen, {there}{_dtype(y, 0)} in NNX"
    return Divergence(reason, _spot(x), _spot(y))


def _cast_before(x: Node, y: Node) -> tuple[Node, Node] | None:
    """A cast of what is given to one of two operations, and where the other has none."""
    for (p, i), (q, k) in zip(x.args, y.args, strict=False):
        if _dtype(p, i) != _dtype(q, k):
            if p.op == _CAST:
                return p, q
            if q.op == _CAST:
                return x, q
    return None


def _dtype(node: Node, which: int) -> str:
    return str(node.avals[which].dtype)


def _leading_to(graph: Graph, outputs: set[Node]) -> list[Node]:
    """The operations that `outputs` need, casts aside: they are there to change the type."""
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(arg for arg, _ in node.args)
    return [
        node for node in graph.nodes if node in needed and not is_start(node) and node.op != _CAST
    ]


def _spot(node: Node) -> Spot | None:
    place = users_place(node.stack)
    if place is None:
        return None
    what = f"{operation_of(node)} {node.avals[0].dtype}"
    return Spot(place.file, place.line, place.source, what, layers_of(node), "")
