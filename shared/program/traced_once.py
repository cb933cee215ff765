"""A pure function that is traced once for all calls on arrays of the same shapes and dtypes."""

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core


class TracedOnce:
    """A pure function; what it runs is its program, traced at the first call.

    Tracing a model runs all of its Python, and a model is run, differentiated and trained here.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._programs: dict[Hashable, tuple[core.ClosedJaxpr, Any]] = {}

    def program(self, *args: Any) -> tuple[core.ClosedJaxpr, Any]:
        """The program on `args`, arrays or abstract ones, and its abstract outputs, as a tree."""
        flat, tree = jax.tree.flatten(args)
        specs = [_spec(x) for x in flat]
        key = (tree, *((x.shape, x.dtype, x.weak_type) for x in specs))
        if key not in self._programs:
            # A new function each time: JAX would remember where an old one was called from.
            function = self._function
            made = jax.make_jaxpr(lambda *args: function(*args), return_shape=True)
            self._programs[key] = made(*jax.tree.unflatten(tree, specs))
        return self._programs[key]

    def __call__(self, *args: Any) -> Any:
        closed, outputs = self.program(*args)
        results = core.jaxpr_as_fun(closed)(*jax.tree.leaves(args))
        # A constant that is returned comes back as a number of Python's.
        return jax.tree.unflatten(jax.tree.structure(outputs), map(jnp.asarray, results))


class Part(TracedOnce):
    """One of several things that a function returns, of the program that there is for all."""

    def __init__(self, whole: TracedOnce, number: int) -> None:
        self._whole, self._number = whole, number

    def program(self, *args: Any) -> tuple[core.ClosedJaxpr, Any]:
        """The program with these outputs alone, of abstract shapes as they are in the whole."""
        closed, outputs = self._whole.program(*args)
        start = len(jax.tree.leaves(outputs[: self._number]))
        part = outputs[self._number]
        returned = closed.jaxpr.outvars[start : start + len(jax.tree.leaves(part))]
        return core.ClosedJaxpr(closed.jaxpr.replace(outvars=returned), closed.consts), part


def _spec(x: Any) -> jax.ShapeDtypeStruct:
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)
    aval = jax.typeof(x)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
