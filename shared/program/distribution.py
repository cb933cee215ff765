"""From which distribution a value is: how its numbers are made of constants and random bits.

Initialisers compute each number from random bits of its own, and all numbers in one way. What they
are drawn from is then the function from bits to a number, whatever the shape is: a kernel that is
made for all layers at once is from the distribution of kernels that are made one by one.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from shared.program.canonical import Names, frozen, params_that_matter
from shared.program.evaluate import result
from shared.program.graph import Node
from shared.program.jax_programs import COMMUTATIVE

# (axis, position) of each axis of which one position is meant, in order.
Place = tuple[tuple[int, int], ...]
# A key, and what is meant of what is drawn of it.
Source = tuple[bytes, tuple]


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """How the numbers of a value are made, one as the other.

    Attributes:
      kind: "number": a constant; "table": a constant array; "bits": random ones; "apply": an
        operation element by element; "joined": some of `args` each; "repeated": the same, and some
        of what is drawn several times; "whole": an operation on arrays, or what a call is given.
      args: of what it is made.
      node: the operation.
      value: of a constant.
      sources: of which keys the bits are drawn, or what stands for that; `node` is their leaf.
      place: what of the result of an operation on arrays is meant.
    """

    kind: str
    args: tuple["Term", ...] = ()
    node: Node | None = None
    value: Any = None
    sources: frozenset[Source] = frozenset()
    place: Place = ()

    def all(self) -> Iterator["Term"]:
        """This and what it is made of, each once."""
        seen, todo = set(), [self]
        while todo:
            term = todo.pop()
            if id(term) not in seen:
                seen.add(id(term))
                yield term
                todo += reversed(term.args)

    @property
    def bits(self) -> list["Term"]:
        """The random bits that it is made of."""
        return [term for term in self.all() if term.kind == "bits"]

    @property
    def is_repeated(self) -> bool:
        """Whether some numbers are drawn once and are there several times."""
        return any(term.kind == "repeated" for term in self.all())

    @property
    def is_elementwise(self) -> bool:
        """Whether each number is made of bits of its own, and all in one way."""
        return all(term.kind in ("number", "bits", "apply") for term in self.all())


def name_of(names: Names, term: Term) -> int:
    """The name of a distribution: equal names are equal distributions."""
    numbers: dict[frozenset[Source], int] = {}
    known: dict[int, int] = {}

    def name(term: Term) -> int:
        if id(term) not in known:
            known[id(term)] = names(term.kind, *_said_of(term))
        return known[id(term)]

    def _said_of(term: Term) -> tuple:
        if term.kind in ("number", "table"):
            return term.value.shape, str(term.value.dtype), term.value.tobytes()
        if term.kind == "bits":
            assert term.node is not None
            number = numbers.setdefault(term.sources, len(numbers))
            return number, str(term.node.avals[0].dtype)
        args = [name(arg) for arg in term.args]
        if term.kind in ("joined", "repeated"):
            # Rows that are drawn alike are drawn as one row would be.
            return tuple(args)
        assert term.node is not None
        if term.kind == "apply":
            args = sorted(args) if term.node.op in COMMUTATIVE else args
            return term.node.op, frozen(params_that_matter(term.node)), *args
        shapes = tuple(tuple(arg.avals[which].shape) for arg, which in term.node.args)
        return term.node.op, frozen(params_that_matter(term.node)), shapes, term.place, *args

    return name(term)


def numbers(term: Term, bits: Mapping[frozenset[Source], np.ndarray]) -> np.ndarray:
    """Numbers made as `term` says, of given bits; one for each.

    Args:
      term: one that `is_elementwise`.
      bits: {sources: bits of the type that is drawn of them}, all of one length.
    """
    known: dict[int, np.ndarray] = {}
    count = len(next(iter(bits.values())))

    def made(term: Term) -> np.ndarray:
        if id(term) not in known:
            if term.kind == "number":
                known[id(term)] = np.full(count, term.value)
            elif term.kind == "bits":
                known[id(term)] = bits[term.sources]
            else:
                assert term.node is not None
                avals = tuple(a.update(shape=(count,)) for a in term.node.avals)
                node = dataclasses.replace(term.node, avals=avals)
                known[id(term)] = np.asarray(result(node, [made(arg) for arg in term.args])[0])
        return known[id(term)]

    return np.asarray(jnp.asarray(made(term)), np.float64)
