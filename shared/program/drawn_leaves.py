"""Puts leaves in the place of draws."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from shared.program.building import pruned
from shared.program.graph import Graph, Node, Value
from shared.program.jax_programs import DRAWS, DRAWS_WITHIN, random_wrap
from shared.program.view import View

# The collection of the leaves that are draws.
COLLECTION = "draws"


def is_draw(path: str) -> bool:
    """Whether the leaf at `path` is a draw."""
    return path.startswith(f"{COLLECTION}/")


def keys_of(node: Node) -> list[Value]:
    """The keys that a node draws of."""
    if node.op in DRAWS:
        return [node.args[0]]
    if node.op in DRAWS_WITHIN or node.op == "while":
        return [(arg, which) for arg, which in node.args if is_key(arg.avals[which])]
    return []


def is_key(value: Any) -> bool:
    """Whether an array, or an abstract one, is of keys."""
    return jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


class Rewriter:
    """Makes the graph in which what is drawn of known keys is a leaf."""

    def __init__(
        self,
        graph: Graph,
        keys: Mapping[Value, np.ndarray],
        leaf: Callable[[np.ndarray, str, jax.ShapeDtypeStruct], str],
    ) -> None:
        self._graph, self._keys, self._path = graph, keys, leaf
        self._nodes: list[Node] = []
        self._leaves: dict[str, Node] = {}
        self._views: dict[Node, View] = dict(graph.views)
        self._of_view: dict[View, Node] = {}
        self._instead: dict[Node, Value] = {}

    def rewritten(self) -> Graph:
        for node in self._graph.nodes:
            node.args = tuple(map(self._new, node.args))
            self._rewrite(node)
        outputs = [self._new(value) for value in self._graph.outputs]
        feeds = {node: self._new(value) for node, value in self._graph.feeds.items()}
        return dataclasses.replace(
            pruned(Graph(self._nodes, outputs, self._views, feeds=feeds), outputs),
            roles=self._graph.roles,
        )

    def _new(self, value: Value) -> Value:
        return self._instead.get(value[0], value) if value[1] == 0 else value

    def _rewrite(self, node: Node) -> None:
        keys = {value: self._keys[value] for value in keys_of(node) if value in self._keys}
        if node.op in DRAWS and keys:
            self._instead[node] = self._drawn(node, *keys.values())
            return
        for value, data in keys.items():
            wrapped = self._wrapped(node, value, data)
            node.args = tuple(wrapped if arg == value else arg for arg in node.args)
        if node.turn is not None:
            node.turn = type(node.turn)(
                self._new(node.turn.goes_on),
                tuple(map(self._new, node.turn.starts)),
                tuple(map(self._new, node.turn.results)),
            )
        view = self._view_of(node)
        if view is None:
            self._nodes.append(node)
        elif view in self._of_view:
            self._instead[node] = self._of_view[view], 0
        else:
            leaf = self._leaves[view.leaf]
            made = Node(0, "view", ((leaf, 0),), {"view": view}, node.avals, node.stack, node.layer)
            self._add(made)
            self._of_view[view], self._views[made] = made, view
            self._instead[node] = made, 0

    def _add(self, node: Node) -> Value:
        self._nodes.append(node)
        return node, 0

    def _drawn(self, node: Node, data: np.ndarray) -> Value:
        """What is drawn of one key; of several, a row for each."""
        (aval,) = node.avals
        keys = data.reshape(-1, data.shape[-1])
        alone = tuple(aval.shape[data.ndim - 1 :])
        rows, which = np.unique(keys, axis=0, return_inverse=True)
        if len(rows) == len(keys):
            return self._leaf(node, data, node.op, aval.shape, aval.dtype), 0
        # Of equal keys equal numbers are drawn.
        made = [(self._leaf(node, row, node.op, alone, aval.dtype), 0) for row in rows]
        if len(rows) == 1:
            kept = tuple(range(data.ndim - 1, aval.ndim))
            params = {"shape": aval.shape, "broadcast_dimensions": kept, "sharding": None}
            return self._like(node, lax.broadcast_in_dim_p, made, params, aval.shape)
        stacked = jax.ShapeDtypeStruct((len(keys), *alone), aval.dtype)
        args = tuple(made[i] for i in which.reshape(-1))
        whole = self._add(Node(0, "stack", args, {}, (stacked,), node.stack, node.layer))
        params = {"new_sizes": aval.shape, "dimensions": None, "sharding": None}
        return (
            whole
            if data.ndim == 2
            else self._like(node, lax.reshape_p, [whole], params, aval.shape)
        )

    def _like(
        self, node: Node, primitive: Any, args: Sequence[Value], params: dict, shape: Any
    ) -> Value:
        aval = jax.ShapeDtypeStruct(shape, node.avals[0].dtype)
        return self._add(
            Node(0, primitive.name, tuple(args), params, (aval,), node.stack, node.layer, primitive)
        )

    def _leaf(self, node: Node, keys: np.ndarray, what: str, shape: Any, dtype: Any) -> Node:
        """The leaf of what `node` draws of `keys`."""
        spec = jax.ShapeDtypeStruct(tuple(shape), dtype)
        path = self._path(keys, what, spec)
        if path not in self._leaves:
            made = Node(0, "leaf", (), {"path": path}, (spec,), node.stack, node.layer)
            self._leaves[path] = made
            self._views[made] = View(path)
            self._add(made)
        return self._leaves[path]

    def _wrapped(self, node: Node, value: Value, data: np.ndarray) -> Value:
        """A key made of a leaf, for what draws by itself."""
        leaf = self._leaf(node, data, "key", data.shape, jnp.uint32)
        aval = value[0].avals[value[1]]
        primitive, params = random_wrap(aval.dtype)
        return self._add(
            Node(
                0, primitive.name, ((leaf, 0),), params, (aval,), node.stack, node.layer, primitive
            )
        )

    def _view_of(self, node: Node) -> View | None:
        """What a scan takes of a draw, as a view of it."""
        if node.op != "index":
            return None
        (source, _), axis = node.args[0], 0
        if source.op == "transpose":
            first, *rest = source.params["permutation"]
            if rest != sorted(rest):
                return None
            axis, source = first, source.args[0][0]
        view = self._views.get(source)
        if view is None or not is_draw(view.leaf):
            return None
        return View(view.leaf, (*view.index, (view.axis(axis), node.params["i"])))
