"""Random draws as leaves: two models that draw the same numbers are two functions of these numbers.

A draw is told by its key and not by how the key was made: where a key is not made of weights, it is
computed, and what is drawn of one key in one shape becomes one leaf. So one mask for all layers is
another program than a mask for each.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from shared.program.evaluate import Values, evaluate
from shared.program.graph import Graph, Node, Value, needed_for, pruned
from shared.program.jax_programs import DRAWS, DRAWS_WITHIN, RANDOM, programs_in, random_wrap
from shared.program.view import View

# The collection of the leaves that are draws.
COLLECTION = "draws"


def is_draw(path: str) -> bool:
    """Whether the leaf at `path` is a draw."""
    return path.startswith(f"{COLLECTION}/")


def draws(closed: core.ClosedJaxpr) -> bool:
    """Whether there is a random draw in a traced program, or in a program within it."""
    return _draws_in(closed.jaxpr)


def _draws_in(jaxpr: core.Jaxpr) -> bool:
    return any(
        eqn.primitive.name in DRAWS | DRAWS_WITHIN or any(map(_draws_in, programs_in(eqn.params)))
        for eqn in jaxpr.eqns
    )


def draws_by_itself(graph: Graph) -> bool:
    """Whether there is a draw in `graph` that is no leaf: its key is made of weights, say."""
    return any(_draws_by_itself(node) for node in graph.nodes)


def _draws_by_itself(node: Node) -> bool:
    if node.op in RANDOM:
        return node.op not in DRAWS_WITHIN or node.args[0][0].op != "random_wrap"
    if any(map(_draws_in, programs_in(node.params))):
        keys = _keys_of(node)
        return not keys or any(key.op != "random_wrap" for key, _ in keys)
    return False


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """What is drawn of one key, or of several.

    Attributes:
      spec: shape and dtype.
      keys: (..., words), the data of its keys; axes in front are those of what is drawn.
    """

    spec: jax.ShapeDtypeStruct
    keys: np.ndarray


class Draws:
    """The draws of one model, under one name in all of its programs.

    Attributes:
      found: {path: draw}.
    """

    def __init__(self, inputs: Callable[[], Sequence[Any]]) -> None:
        """No draw is known yet.

        Args:
          inputs: makes the inputs of a call, flat: keys may be made of them.
        """
        self.found: dict[str, Draw] = {}
        self._paths: dict[Hashable, str] = {}
        self._inputs = inputs

    def given(self, graph: Graph) -> Graph:
        """`graph`, which is changed, with leaves for the draws of which the keys are known."""
        rewriter = _Rewriter(graph, self._keys(graph), self._leaf)
        return rewriter.rewritten()

    def _leaf(self, keys: np.ndarray, what: str, spec: jax.ShapeDtypeStruct) -> str:
        """The path of what is drawn of `keys`, (..., words)."""
        told_by = (what, keys.tobytes(), spec.shape, str(spec.dtype))
        if told_by not in self._paths:
            self._paths[told_by] = path = f"{COLLECTION}/{len(self._paths)}"
            self.found[path] = Draw(spec, keys)
        return self._paths[told_by]

    def _keys(self, graph: Graph) -> dict[Value, np.ndarray]:
        """{key: its data} of the keys that draw and that are not made of weights."""
        wanted = {value for node in graph.nodes for value in _keys_of(node)}
        made_of_weights: set[Node] = set()
        takes_inputs: set[Node] = set()
        for node in graph.nodes:
            args = {arg for arg, _ in node.args}
            if node.op == "leaf" or node.op == "carry" or args & made_of_weights:
                made_of_weights.add(node)
            if node.op == "input" or args & takes_inputs:
                takes_inputs.add(node)
        known = {value for value in wanted if value[0] not in made_of_weights}
        needed = needed_for(graph, *(node for node, _ in known))
        inputs = () if takes_inputs.isdisjoint(needed.nodes) else self._inputs()
        values: Values = evaluate(needed, {}, inputs, wide=False)
        return {value: _data(values[value[0]][value[1]]) for value in known}


def _keys_of(node: Node) -> list[Value]:
    """The keys that a node draws of."""
    if node.op in DRAWS:
        return [node.args[0]]
    if node.op in DRAWS_WITHIN or node.op == "while":
        return [(arg, which) for arg, which in node.args if _is_key(arg.avals[which])]
    return []


def _is_key(aval: Any) -> bool:
    return jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key)


def _data(key: Any) -> np.ndarray:
    """The data of a key, or of an array of keys: (shape of the array, words)."""
    return np.asarray(jax.random.key_data(key) if _is_key(key) else key)


class _Rewriter:
    """Puts leaves in the place of draws."""

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
        keys = {value: self._keys[value] for value in _keys_of(node) if value in self._keys}
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
