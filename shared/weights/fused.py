"""Weights of one side that are parts of one weight of the other.

Flax's own layers differ so (an LSTM cell has four kernels in Linen and one in NNX): that is the
port that is meant. A port that fuses by itself has another structure than the model, and a
checkpoint of other shapes: that is said, unless the user's map says that it is meant.
"""

import dataclasses
from collections.abc import Sequence

from shared.program.graph import Graph, Node
from shared.program.view import View
from shared.weights.entry import Entry
from shared.weights.names import template
from shared.weights.pieces import Found


@dataclasses.dataclass(frozen=True)
class Fused:
    """What one side has fused without having said so.

    Attributes:
      remark: what it is, and how to say that it is meant.
      summary: the same in short.
      linen: a weight of Linen; nnx: its counterpart; one of them is part of a weight.
    """

    remark: str
    summary: str
    linen: Node
    nnx: Node


def find_fused(found: Found) -> Fused | None:
    """What is fused in the user's own code and not in the user's map, or None."""
    meant = {
        template(leaf)
        for entry in found.entries
        if "user" in entry.by
        for leaf in _fused_leaves(entry)
    }
    unsaid: dict[tuple[str, ...], Entry] = {}
    for entry in found.entries:
        fused = tuple(map(template, _fused_leaves(entry)))
        if (
            fused
            and not is_cut_by_flax(found.linen, found.nnx, entry)
            and not meant.intersection(fused)
        ):
            unsaid.setdefault(fused, entry)
    if not unsaid:
        return None
    entry = next(iter(unsaid.values()))
    summary = _summary(found.entries, entry)
    pins = ", ".join(f'"{entry.linen}": "{entry.nnx}"' for entry in unsaid.values())
    remark = f"different structure: {summary}; if that is meant, say so: weight_map={{{pins}}}"
    return Fused(remark, summary, _node(found.linen, entry.linen), _node(found.nnx, entry.nnx))


def is_cut_by_flax(linen: Graph, nnx: Graph, entry: Entry) -> bool:
    """Whether a layer of Flax's takes the parts of `entry` out of a weight, if there are any."""
    nodes = [
        _node(graph, view) for graph, view in ((linen, entry.linen), (nnx, entry.nnx)) if view.part
    ]
    return all(node.stack and node.stack[0].is_flax for node in nodes)


def _summary(entries: Sequence[Entry], entry: Entry) -> str:
    side, other = ("nnx", "linen") if entry.nnx.part else ("linen", "nnx")
    whole = getattr(entry, side).leaf
    parts = [getattr(e, other).leaf for e in entries if getattr(e, side).leaf == whole]
    names = {"linen": "Linen's", "nnx": "NNX's"}
    return f"{names[other]} {', '.join(sorted(set(parts)))} are parts of {names[side]} {whole}"


def _fused_leaves(entry: Entry) -> list[str]:
    return [view.leaf for view in (entry.linen, entry.nnx) if view.part]


def _node(graph: Graph, view: View) -> Node:
    """The node that holds a part of a weight; that of the weight, where no part is held."""
    nodes = {held: node for node, held in graph.views.items()}
    of_leaf = (node for held, node in nodes.items() if held.leaf == view.leaf)
    return nodes.get(view.as_it_is) or next(of_leaf)
