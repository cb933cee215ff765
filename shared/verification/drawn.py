"""The random draws of a pair, as leaves of its models."""

import collections
import dataclasses
import itertools

import jax

from shared.models.pure import PureModel
from shared.models.pure_pair import PurePair
from shared.program.drawn_leaves import is_draw
from shared.program.draws import Draws, draws
from shared.program.graph import Graph, Node
from shared.program.jax_programs import COMPARISONS
from shared.program.view import View
from shared.verification.ported import Ported
from shared.verification.programs import called, program
from shared.weights.entry import TURNED, Entry

# What makes true and false of a number, or whole numbers.
_CUTS = COMPARISONS | {"floor", "ceil"}


def with_draws(pure: PurePair) -> PurePair:
    """`pure` with what its models draw among their leaves: numbers to be given, as weights are."""
    linen, nnx = (_with_draws(model, pure) for model in (pure.linen, pure.nnx))
    return dataclasses.replace(pure, linen=linen, nnx=nnx)


def of_one_key(ported: Ported) -> tuple[Entry, Entry, str] | None:
    """Two draws of one key, on one side alone: (one, the other, "linen" or "nnx").

    Draws of one shape that share a key are one draw. Of other shapes they are other numbers, and
    are not independent.
    """
    entries = [entry for entry in ported.entries if entry.is_draw]
    found = []
    for side, model in (("linen", ported.linen), ("nnx", ported.nnx)):
        of: dict[bytes, set[int]] = collections.defaultdict(set)
        for i, entry in enumerate(entries):
            view = getattr(entry, side)
            if model.draws is not None and not view.index:
                keys = model.draws.found[view.leaf].keys
                for key in keys.reshape(-1, keys.shape[-1]):
                    of[key.tobytes()].add(i)
        found.append({pair for s in of.values() for pair in itertools.combinations(sorted(s), 2)})
    for side, alone in (("nnx", found[1] - found[0]), ("linen", found[0] - found[1])):
        if alone:
            i, j = min(alone)
            return entries[i], entries[j], side
    return None


def turned(ported: Ported) -> tuple[Entry, ...] | None:
    """The map with those draws inverted that are compared with a share; None if there are none.

    A mask may be `u < 0.8` or `u >= 0.2`: as often true, of inverted bits the same.
    """
    graphs = ported.linen_program.graph, ported.nnx_program.graph
    compared = [_compared(graph) for graph in graphs]
    entries = tuple(
        dataclasses.replace(entry, by=TURNED)
        if entry.is_draw and entry.linen in compared[0] and entry.nnx in compared[1]
        else entry
        for entry in ported.entries
    )
    return None if entries == ported.entries else entries


def _compared(graph: Graph) -> set[View]:
    """The draws that are compared with a constant."""
    made: dict[Node, set[View]] = {}
    found: set[View] = set()
    for node in graph.nodes:
        view = graph.views.get(node)
        sources = [made[arg] for arg, _ in node.args if made.get(arg)]
        if view is not None:
            made[node] = {view} if is_draw(view.leaf) else set()
        elif node.op in _CUTS and len(sources) == 1:
            found |= sources[0]
        elif len(sources) == 1:
            made[node] = sources[0]
    return found


def _with_draws(model: PureModel, pure: PurePair) -> PureModel:
    with called(model, pure.inputs):
        closed, _ = model.apply.program(dict(model.leaves), pure.inputs)
    if not draws(closed):
        return model
    found = Draws(lambda: jax.tree.leaves(pure.sample_inputs(0, {})))
    drawing = dataclasses.replace(model, draws=found)
    program(model.apply, drawing, pure.inputs)
    leaves = {path: draw.spec for path, draw in found.found.items()}
    return dataclasses.replace(drawing, leaves={**model.leaves, **leaves})
