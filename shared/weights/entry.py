"""Entry: which piece of a Linen leaf is which piece of an NNX leaf."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

from shared.program.graph import Graph, Node
from shared.program.view import View

TURNED = "turned draw"


@dataclasses.dataclass(frozen=True)
class Entry:
    """`linen` and `nnx` hold the same numbers. How that is known: `by`.

    Attributes:
      by: "dataflow", "names" or "user"; "draw" of what is drawn and is no weight, "turned draw"
        where NNX takes what is large for what is small.
    """

    linen: View
    nnx: View
    by: str = "dataflow"

    @property
    def is_draw(self) -> bool:
        """Whether this is what is drawn, and no weight."""
        return self.by in ("draw", TURNED)

    @property
    def is_turned(self) -> bool:
        """Whether NNX has the bits of Linen inverted: `u >= rate` for `u < 1 - rate`."""
        return self.by == TURNED


def leaf_names(entries: Sequence[Entry], graph: Graph, linen: bool) -> Callable[[Node], Hashable]:
    """A function from a node that holds a weight to a name, one for both sides of an entry.

    Args:
      entries: which weight is which.
      graph: a program.
      linen: whether it is Linen's.
    """
    numbers = {
        entry.linen if linen else entry.nnx: i
        for i, entry in enumerate(entries)
        if not entry.is_turned
    }

    def name(node: Node) -> Hashable:
        view = graph.views.get(node, View(node.params.get("path", "")))
        if not view.is_any_layer:
            return numbers.get(view, (linen, view))
        leaf, _ = node.args[0]
        layers = tuple(map(numbers.get, view.layers(leaf.avals[0].shape)))
        scans = tuple(position for _, position in view.index)
        return (linen, view) if None in layers else (scans, layers)

    return name
