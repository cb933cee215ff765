"""Names for values that are the same in two programs whenever the values are computed the same way.

Every name is a small integer from one `Names` for both programs: equal integers mean equal keys, so
nothing rests on a hash.
"""

import math
import re
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core

from shared.program.graph import Graph, Node, constant_value
from shared.program.jax_programs import COMMUTATIVE, RESHAPES, SAME_OPERATION, SILENT
from shared.program.repetition import Repetition, broadcast, is_repeated, once

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Names:
    """Gives equal keys one integer."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def __call__(self, *key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


def label(names: Names, node: Node) -> int:
    """The name of an operation without its operands: what it is, its parameters, its results."""
    if node.signature is None:
        node.signature = _signature(node)
    return names(*node.signature)


def _signature(node: Node) -> tuple[Hashable, ...]:
    results = tuple((tuple(aval.shape), str(aval.dtype)) for aval in node.avals)
    if node.op == "constant":
        value = constant_value(node)
        return "constant", value.shape, str(value.dtype), value.tobytes()
    if node.op == "input":
        return "input", node.params["index"], results
    if only_reshapes(node):
        return "reshape", results
    op = SAME_OPERATION.get(node.op, node.op)
    return op, frozen(params_that_matter(node)), results


def params_that_matter(node: Node) -> dict[str, Any]:
    """The parameters of an operation that have a say in its results."""
    params = {key: value for key, value in node.params.items() if not SILENT.fullmatch(key)}
    preferred = params.get("preferred_element_type")
    if preferred is not None and preferred == node.avals[0].dtype:
        del params["preferred_element_type"]
    return {key: value for key, value in params.items() if value is not None}


def frozen(value: Any) -> Hashable:
    """`value` as something that can be compared and hashed."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(key), frozen(item)) for key, item in value.items()))
    if isinstance(value, core.ClosedJaxpr):
        return (str(value.jaxpr), tuple(frozen(const) for const in value.consts))
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(frozen, value))
    if isinstance(value, np.ndarray):
        return (value.shape, str(value.dtype), value.tobytes())
    if callable(value) and not isinstance(value, type):
        module = getattr(value, "__module__", "")
        # What a function of the user's does is not known: it is equal to itself alone.
        known = isinstance(value, types.FunctionType) and module.split(".")[0] == "jax"
        return (module, value.__qualname__) if known else ("function", id(value))
    return _ADDRESS.sub("", str(value))


def value_names_of_all(
    names: Names, graphs: Sequence[Graph], leaf_names: Sequence[Callable[[Node], Hashable]]
) -> list[dict[Node, int]]:
    """Each value's name by how it is computed, in all programs that are compared.

    Equal names are equal values, also in scans that are not unrolled: two carries have one name if
    they start with equal values and, as long as they are equal, go on with equal values.

    Source: partition refinement, as for the equivalence of automata (Moore).
    """
    carries: list[dict[Node, int]] = [{} for _ in graphs]
    classes = -1
    while True:
        names_of = [
            value_names(names, graph, leaf_name, known)
            for graph, leaf_name, known in zip(graphs, leaf_names, carries, strict=True)
        ]
        carries = [
            {
                carry: names("goes on", name_of[carry], name_of[node], which)
                for carry, (node, which) in graph.feeds.items()
            }
            for graph, name_of in zip(graphs, names_of, strict=True)
        ]
        found = len({name for known in carries for name in known.values()})
        if found == classes or not found:
            return names_of
        classes = found


def value_names(
    names: Names,
    graph: Graph,
    leaf_name: Callable[[Node], Hashable],
    carries: Mapping[Node, int] = types.MappingProxyType({}),
) -> dict[Node, int]:
    """Each value's name by how it is computed: its operation and the names of its operands.

    Args:
      names: shared between the programs that are compared.
      graph: a program.
      leaf_name: the name of a leaf, or of a slice of one.
      carries: {carry: what is known of how it goes on}; without, carries of one scan that start
        with equal values have one name.
    """
    name_of: dict[Node, int] = {}
    origins: dict[Node, _Origin] = {}
    for node in graph.nodes:
        if node in graph.views or node.op == "leaf":
            name_of[node] = names("leaf", leaf_name(node))
        elif (origin := _origin(node, name_of, origins)) is not None:
            origins[node] = origin
            shape = tuple(node.avals[0].shape)
            if is_repeated(origin.repetition):
                name_of[node] = names("repeat", *origin[:2], origin.repetition, shape)
            else:
                back = shape == origin.shape and origin.which == 0
                name_of[node] = origin.name if back else names("reshape", *origin[:2], shape)
        else:
            operands = [(name_of[arg], which) for arg, which in node.args]
            known = carries.get(node, -1) if node.op == "carry" else -1
            name_of[node] = names(label(names, node), known, *_in_order(node, operands))
    return name_of


class _Origin(NamedTuple):
    """What a value has the elements of, in what order.

    Attributes:
      name: of what computes them; which: of its results; shape: of that.
    """

    name: int
    which: int
    shape: tuple[int, ...]
    repetition: Repetition


def _origin(
    node: Node, name_of: Mapping[Node, int], origins: Mapping[Node, _Origin]
) -> _Origin | None:
    """What a value is reshaped or repeated of, once or several times; None if it is computed."""
    if not (only_reshapes(node) or node.op == "broadcast_in_dim"):
        return None
    arg, which = node.args[0]
    before = tuple(arg.avals[which].shape)
    origin = origins.get(arg, _Origin(name_of[arg], which, before, once(math.prod(before))))
    if only_reshapes(node):
        return origin
    shape, kept = tuple(node.params["shape"]), tuple(node.params["broadcast_dimensions"])
    repetition = broadcast(origin.repetition, before, shape, kept)
    return None if repetition is None else origin._replace(repetition=repetition)


def _in_order(node: Node, operands: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(operands) if node.op in COMMUTATIVE else operands


def only_reshapes(node: Node) -> bool:
    """Whether the elements of the operand stay as they are, in their order."""
    if node.op == "transpose":
        shape = node.args[0][0].avals[node.args[0][1]].shape
        moved = [axis for axis in node.params["permutation"] if shape[axis] > 1]
        return moved == sorted(moved)
    if node.op not in RESHAPES or not node.args:
        return False
    if node.op == "reshape" and node.params.get("dimensions") is not None:
        return False  # it transposes first
    arg, which = node.args[0]
    return _count(arg.avals[which]) == _count(node.avals[0]) and len(node.args) == 1


def not_reshaped(node: Node) -> Node:
    """What computes the elements of a value that may only be reshaped."""
    while only_reshapes(node):
        node = node.args[0][0]
    return node


def _count(aval: Any) -> int:
    return math.prod(aval.shape)
