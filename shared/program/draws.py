"""Random draws as leaves: two models that draw the same numbers are two functions of these numbers.

A draw is told by its key and not by how the key was made: where a key is not made of weights, it is
computed, and what is drawn of one key in one shape becomes one leaf. So one mask for all layers is
another program than a mask for each.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from shared.program.drawn_leaves import COLLECTION, Rewriter, is_key, keys_of
from shared.program.evaluate import Values, evaluate
from shared.program.graph import Graph, Node, Value, needed_for
from shared.program.jax_programs import DRAWS, DRAWS_WITHIN, RANDOM, programs_in


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
        keys = keys_of(node)
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
        rewriter = Rewriter(graph, self._keys(graph), self._leaf)
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
        wanted = {value for node in graph.nodes for value in keys_of(node)}
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


def _data(key: Any) -> np.ndarray:
    """The data of a key, or of an array of keys: (shape of the array, words)."""
    return np.asarray(jax.random.key_data(key) if is_key(key) else key)
