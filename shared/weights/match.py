"""Pairs the weights of two programs of one model.

By what is done with each weight first: a weight's name is how its value flows to the outputs. Where
the programs differ, by its neighbourhood, wide ones first. Names of paths decide only among weights
that the programs do not tell apart.
"""

import collections
import difflib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from shared.program.canonical import Names
from shared.program.drawn_leaves import is_draw
from shared.program.flow import LeafName, by_downstream, by_flow, by_neighbourhood, by_upstream
from shared.program.graph import Graph, Node
from shared.program.view import View
from shared.weights.entry import Entry
from shared.weights.names import (
    SAY_NOTHING,
    layer_of,
    likenesses,
    shared_words,
    similarity,
    template,
    words,
)

Naming = Callable[[Names, Graph, LeafName], Mapping[Node, Hashable]]
_NAMINGS: tuple[Naming, ...] = (by_flow, by_upstream, by_downstream)
_ROUNDS = (12, 8, 5, 3, 2, 1)
_COLLECTIONS = ("params", "batch_stats", "cache", "draws")


class Matcher:
    """Pairs the weights of two programs.

    Attributes:
      left: the nodes that have no counterpart yet, of Linen and of NNX.
      entries: what has, and how that is known.
    """

    def __init__(
        self, linen: Graph, nnx: Graph, any_dtype: bool = False, any_collection: bool = False
    ):
        """Pairs nothing yet.

        Args:
          linen: the Linen program; nnx: the NNX program.
          any_dtype: whether a weight of float32 may be one of bfloat16.
          any_collection: whether a param may be a statistic.
        """
        self.graphs = (linen, nnx)
        self.any_dtype, self.any_collection = any_dtype, any_collection
        self.left: tuple[list[Node], list[Node]] = (list(linen.views), list(nnx.views))
        self.entries: list[Entry] = []
        self.number: dict[Node, int] = {}
        self._neighbourhoods: tuple[int, list[list[dict[Node, int]]]] | None = None

    def view(self, side: int, node: Node) -> View:
        return self.graphs[side].views[node]

    def pair(self, linen: Node, nnx: Node, by: str) -> None:
        self.number[linen] = self.number[nnx] = len(self.entries)
        view = self.view(0, linen)
        # No map of weights rests on what is drawn, which has no name.
        by = "draw" if is_draw(view.leaf) else by
        self.entries.append(Entry(view, self.view(1, nnx), by))
        self.left[0].remove(linen)
        self.left[1].remove(nnx)

    def colour(self, side: int) -> Any:
        """The name of a piece: its pair where it has one, else its collection, shape and dtype."""

        def name(node: Node) -> Hashable:
            if node in self.number:
                return ("pair", self.number[node])
            if node not in self.graphs[side].views:
                return "whole"
            collection = self.view(side, node).leaf.split("/")[0]
            aval = node.avals[0]
            known = collection if collection in _COLLECTIONS else "other"
            known = "any" if self.any_collection else known
            floating = jnp.issubdtype(aval.dtype, jnp.floating)
            dtype = "floating" if self.any_dtype and floating else str(aval.dtype)
            return (known, tuple(aval.shape), dtype)

        return name

    def pin(self, linen: View, nnx: View, by: str) -> None:
        """Pairs `linen` with `nnx`, or the slices of each; a program may not use one of them."""
        nodes = [
            [node for node in self.left[side] if _is_of(self.view(side, node), view)]
            for side, view in enumerate((linen, nnx))
        ]
        if len(nodes[0]) == len(nodes[1]):
            for x, y in zip(*nodes, strict=True):
                self.pair(x, y, by)
        elif not all(nodes) and len(nodes[0] + nodes[1]) == 1:
            side = 0 if nodes[0] else 1
            if (linen, nnx)[1 - side] in self.graphs[1 - side].views.values():
                return  # it has been paired
            (node,) = nodes[side]
            self.number[node] = len(self.entries)
            self.left[side].remove(node)
            self.entries.append(Entry(linen, nnx, by))

    def run(self) -> None:
        """Pairs all that can be paired."""
        # What is told apart first, as long as each pair helps to tell more apart; then what is not.
        for ties in (False, True):
            before = -1
            while before != len(self.entries) and all(self.left):
                before = len(self.entries)
                for naming in _NAMINGS:
                    self.by(naming, ties)
                for rounds in _ROUNDS:
                    self.by_neighbourhood(rounds, ties)
        self.by_words()
        self.by_shape()

    def by(self, naming: Naming, ties: bool) -> None:
        """Pairs pieces that have one name on both sides."""
        if all(self.left):
            names = Names()
            named = [naming(names, self.graphs[side], self.colour(side)) for side in (0, 1)]
            self.pair_groups(named, ties)

    def by_neighbourhood(self, rounds: int, ties: bool) -> None:
        if not all(self.left):
            return
        # They are the same as long as no more weights are paired.
        if not self._neighbourhoods or self._neighbourhoods[0] != len(self.entries):
            names = Names()
            found = [
                by_neighbourhood(names, self.graphs[side], self.colour(side), max(_ROUNDS))
                for side in (0, 1)
            ]
            self._neighbourhoods = len(self.entries), found
        _, colours = self._neighbourhoods
        self.pair_groups([side[rounds] for side in colours], ties)

    def by_words(self) -> None:
        """What both sides call by the same words, where as many are called so."""
        vocabulary = [
            {word for node in self.left[side] for word in words(self.view(side, node).leaf)}
            for side in (0, 1)
        ]
        common = vocabulary[0] & vocabulary[1]

        def key(side: int) -> Any:
            def name(node: Node) -> Hashable:
                own = words(self.view(side, node).leaf) & common
                return (self.colour(side)(node), own) if own - SAY_NOTHING else node

            return name

        groups: list[dict[Hashable, list[Node]]] = [
            collections.defaultdict(list),
            collections.defaultdict(list),
        ]
        for side in (0, 1):
            for node in self.left[side]:
                groups[side][key(side)(node)].append(node)
        for name, linen in groups[0].items():
            nnx = groups[1].get(name, [])
            if len(linen) == len(nnx):
                for a, b in zip(linen, nnx, strict=True):
                    self.pair(a, b, "names and order")

    def by_shape(self) -> None:
        """The rest: equal shapes in the order of use, between pairs that are known."""
        sequences: list[list[Hashable]] = [
            [self.colour(side)(node) for node in self.graphs[side].views] for side in (0, 1)
        ]
        nodes = [list(graph.views) for graph in self.graphs]
        matcher = difflib.SequenceMatcher(None, sequences[0], sequences[1], autojunk=False)
        for i, j, size in matcher.get_matching_blocks():
            for a, b in zip(nodes[0][i : i + size], nodes[1][j : j + size], strict=True):
                if a in self.left[0] and b in self.left[1] and not self._is_crossed(a, b):
                    self.pair(a, b, "order")
        candidates = sorted(
            (-similarity(self.view(0, a).leaf, self.view(1, b).leaf), abs(i - j), i, j)
            for i, a in enumerate(self.left[0])
            for j, b in enumerate(self.left[1])
            if self.colour(0)(a) == self.colour(1)(b)
        )
        rest = [list(side) for side in self.left]
        for _, _, i, j in candidates:
            if rest[0][i] in self.left[0] and rest[1][j] in self.left[1]:
                self.pair(rest[0][i], rest[1][j], "names")

    def _is_crossed(self, linen: Node, nnx: Node) -> bool:
        """Whether words say that NNX's belongs to another of Linen's, of which more are left."""

        def alike(a: Node, b: Node) -> float:
            return shared_words(self.view(0, a).leaf, self.view(1, b).leaf)

        colours = self.colour(0), self.colour(1)
        left = [
            [each for each in self.left[side] if colours[side](each) == colours[side](own)]
            for side, own in enumerate((linen, nnx))
        ]
        best = max(alike(each, nnx) for each in left[0])
        return len(left[0]) > len(left[1]) and best > alike(linen, nnx)

    def pair_groups(self, named: Sequence[Mapping[Node, Hashable]], ties: bool) -> None:
        """Pairs pieces of equal names where both sides have one of them; with `ties`, as many."""
        groups: list[dict[Hashable, list[Node]]] = [
            collections.defaultdict(list),
            collections.defaultdict(list),
        ]
        for side in (0, 1):
            for node in self.left[side]:
                groups[side][named[side][node]].append(node)
        for key, linen in groups[0].items():
            nnx = groups[1].get(key, [])
            if len(linen) == len(nnx) == 1:
                self.pair(linen[0], nnx[0], "dataflow")
            elif ties and len(linen) == len(nnx):
                self.pair_tied(linen, nnx)

    def pair_tied(self, linen: list[Node], nnx: list[Node]) -> None:
        """Pairs what the programs do not tell apart: words by likeness, what is left in order."""
        paths = [[self.view(0, node).leaf for node in linen], [self.view(1, n).leaf for n in nnx]]
        if all(len(set(map(template, side))) == 1 for side in paths):
            for a, b in zip(linen, nnx, strict=True):
                self.pair(a, b, "dataflow and order")
            return
        one_layer = len({layer_of(self.view(0, node)) for node in linen}) == 1
        by = "dataflow and names" if one_layer else "dataflow, names and order"
        candidates = sorted(
            (-likeness, abs(i - j), i, j)
            for (i, j), likeness in likenesses(*paths).items()
            if likeness > 0
        )
        for _, _, i, j in candidates:
            if linen[i] in self.left[0] and nnx[j] in self.left[1]:
                self.pair(linen[i], nnx[j], by)
        # What names do not tell, both programs use in one order.
        rest = ([x for x in linen if x in self.left[0]], [y for y in nnx if y in self.left[1]])
        for a, b in zip(*rest, strict=True):
            self.pair(a, b, by)


def _is_of(view: View, pinned: View) -> bool:
    """Whether `view` is `pinned`, or one of the slices of it that a scan takes."""
    return (
        view.leaf == pinned.leaf
        and view.part == pinned.part
        and (not pinned.index or set(pinned.index) == set(view.index))
    )
