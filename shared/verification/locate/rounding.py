"""What half precision does to two programs, and what tells them apart without it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shared.program.canonical import only_reshapes
from shared.program.evaluate import Values, evaluate
from shared.program.graph import Graph, Node, Value, constant_value, is_start
from shared.verification.locate.values import (
    HALF_PRECISION,
    ValueTable,
    is_key,
    mark_of,
    same_in_place,
)
from shared.verification.programs import Program
from shared.verification.sample import Sample

# How much further than a rounded constant moves them the outputs may be apart.
MORE = 2.0
# Of the largest output: what is smaller is measured by this.
SMALL = 1e-2

# Of these a result has the precision of what they are given.
_MOVES = {"convert_element_type", "slice", "gather", "concatenate", "pad", "select_n"}

Pairs = Mapping[str, tuple[Value, Value]]


class Rounding(NamedTuple):
    """What half precision does to two programs.

    Attributes:
      explains: whether they are the same without it, up to constants that are rounded.
      is_finer: whether NNX rounds nowhere where Linen does not.
      moves: by what part of its size rounding moves the outputs of Linen, and those of NNX.
    """

    explains: bool
    is_finer: bool
    moves: tuple[float, float]

    @property
    def note(self) -> str:
        return (
            f"equal but for rounding, which moves Linen by {self.moves[0]:.2g}, "
            f"NNX by {self.moves[1]:.2g}"
        )


def rounding(linen: Program, nnx: Program, sample: Sample, outputs: Pairs) -> Rounding:
    """What half precision does to two programs on the numbers of `sample`.

    Args:
      linen: a program of Linen's; nnx: that of NNX.
      sample: weights and inputs.
      outputs: {name: (Linen's, NNX's)} of what should be equal.
    """
    flat = jax.tree.leaves(sample.inputs)
    exact, rounded, nudged = [], [], []
    for p, leaves in ((linen, sample.linen), (nnx, sample.nnx)):
        exact.append(evaluate(p.graph, leaves, flat, casts=False))
        rounded.append(evaluate(p.graph, leaves, flat, wide=False))
        nudges = _nudges(p.graph)
        nudged.append(evaluate(p.graph, leaves, flat, casts=False, nudges=nudges))

    def of(values: Sequence[Values], name: str, side: int) -> np.ndarray:
        node, which = outputs[name][side]
        x = np.asarray(values[side][node][which])
        return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)

    sizes = {name: _largest(of(exact, name, 0)) for name in outputs}
    # What is zero but for rounding has that of the others.
    least = SMALL * max(sizes.values(), default=0.0)
    explains = True
    for name in outputs:
        one, other = of(exact, name, 0), of(exact, name, 1)
        noise = sum(_largest(of(nudged, name, side) - of(exact, name, side)) for side in (0, 1))
        gap = _largest(one - other) if one.shape == other.shape else float("inf")
        explains &= same_in_place(one, other, least) or gap <= MORE * noise
    moves = [
        max(
            (
                _largest(of(rounded, name, side) - of(exact, name, side)) / max(sizes[name], least)
                for name in outputs
                if max(sizes[name], least) > 0
            ),
            default=0.0,
        )
        for side in (0, 1)
    ]
    return Rounding(
        explains, _is_finer(linen.graph, exact[0], nnx.graph, exact[1]), (moves[0], moves[1])
    )


def in_other_precision(
    linen: Graph, exact: Values, nnx: Graph, exact_port: Values
) -> tuple[Node, Node] | None:
    """The first operation of NNX whose result Linen has in another type alone.

    Args:
      exact: the values of Linen's program where no cast rounds; exact_port: those of NNX.
    """
    tables = _tables(linen, exact)
    for node in nnx.nodes:
        if is_start(node) or only_reshapes(node) or node.op in _MOVES or not _is_floating(node):
            continue
        mark = _mark(node, exact_port)
        near = tables[mark[0]].near(mark[1]) if mark is not None and mark[0] in tables else []
        same = [each for each in near if each.op == node.op]
        if same and all(each.avals[0].dtype != node.avals[0].dtype for each in same):
            return same[0], node
    return None


def _is_finer(linen: Graph, exact: Values, nnx: Graph, exact_port: Values) -> bool:
    """Whether NNX has no value in half precision that Linen has in full precision alone."""
    tables = _tables(linen, exact)
    for node in nnx.nodes:
        mark = _mark(node, exact_port) if _is_half(node) and not is_start(node) else None
        if mark is not None and mark[0] in tables:
            same = tables[mark[0]].near(mark[1])
            if same and not any(map(_is_half, same)):
                return False
    return True


def _tables(graph: Graph, values: Values) -> dict[Any, ValueTable]:
    """The values of a program, those it is given as weights and constants aside, to be found."""
    held: dict[Any, list[tuple[Node, np.ndarray]]] = {}
    for node in graph.nodes:
        mark = _mark(node, values)
        if mark is not None and not (is_start(node) and node.op != "input"):
            held.setdefault(mark[0], []).append((node, mark[1]))
    return {kind: ValueTable(rows) for kind, rows in held.items()}


def _mark(node: Node, values: Values) -> Any:
    if len(node.avals) != 1 or is_key(values[node][0]):
        return None
    return mark_of(values[node][0])


def _is_floating(node: Node) -> bool:
    return jnp.issubdtype(node.avals[0].dtype, jnp.floating)


def _is_half(node: Node) -> bool:
    return _is_floating(node) and jnp.finfo(node.avals[0].dtype).bits < 32


def _nudges(graph: Graph) -> dict[Node, float]:
    """By what numbers that have been rounded may be off: one way or the other, half a step.

    Those with few digits, 0.5 or 8, are taken to be as they were written.
    """
    rng = np.random.default_rng(0)
    found = {}
    for node in graph.nodes:
        if node.op == "constant" and "exact" not in node.params and _is_half(node):
            value = constant_value(node).astype(np.float64)
            mantissa = np.frexp(np.abs(value))[0] * 2**8
            if value.size == 1 and np.isfinite(value).all() and np.any(mantissa % 16):
                found[node] = 1 + rng.choice([-0.5, 0.5]) * HALF_PRECISION
    return found


def _largest(x: np.ndarray) -> float:
    return float(np.abs(x).max(initial=0.0))
