"""Where a program asks for a sharding of its values: no operation, for it changes no number."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jax.extend import core

from shared.program.jax_programs import CONSTRAINTS, programs_in
from shared.program.source import Stack, places


class Constraint(NamedTuple):
    """A sharding that is asked for.

    Attributes:
      shape: of the value.
      names: the axes of the mesh, for each axis of the value.
      stack: where it was written, innermost first.
    """

    shape: tuple[int, ...]
    names: tuple[Any, ...]
    stack: Stack


def constraints(closed: core.ClosedJaxpr) -> list[Constraint]:
    """Those of a traced program and of the programs within it, in order."""
    return list(_constraints(closed.jaxpr, ()))


def _constraints(jaxpr: core.Jaxpr, outer: Stack) -> Iterator[Constraint]:
    for eqn in jaxpr.eqns:
        stack = places(eqn.source_info) + outer
        spec = getattr(eqn.params.get("sharding"), "spec", None)
        if eqn.primitive.name in CONSTRAINTS and spec is not None:
            aval: Any = eqn.outvars[0].aval
            shape = tuple(aval.shape)
            yield Constraint(shape, (*spec, *[None] * (len(shape) - len(spec))), stack)
        for inner in programs_in(eqn.params):
            yield from _constraints(inner, stack)
