"""A pure function that is traced once for all calls on arrays of the same shapes and dtypes."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core


class _Traced(NamedTuple):
    """A function that JAX remembers the program of, that program, and its abstract outputs."""

    function: Callable[..., Any]
    program: core.ClosedJaxpr
    outputs: Any
    jitted: dict[Hashable, Callable[..., Any]]


class TracedOnce:
    """A pure function; what it runs is its program, traced at the first call.

    Tracing a model runs all of its Python, and a model is run, differentiated and trained here.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._traced: dict[Hashable, _Traced] = {}

    def program(self, *args: Any) -> tuple[core.ClosedJaxpr, Any]:
        """The program on `args`, arrays or abstract ones, and its abstract outputs, as a tree."""
        traced = self._trace(args)
        return traced.program, traced.outputs

    def jitted(self, args: tuple, options: dict[str, Any] | None = None) -> Callable[..., Any]:
        """`jax.jit` of the function, which is not traced again on such `args`.

        Args:
          args: arrays or abstract ones.
          options: what XLA is told.
        """
        traced = self._trace(args)
        key = tuple((options or {}).items())
        if key not in traced.jitted:
            traced.jitted[key] = jax.jit(traced.function, compiler_options=options)
        return traced.jitted[key]

    def _trace(self, args: tuple) -> _Traced:
        flat, tree = jax.tree.flatten(args)
        specs = [_spec(x) for x in flat]
        key = (tree, *((x.shape, x.dtype, x.weak_type) for x in specs))
        if key not in self._traced:
            function = self._function

            # A new function each time: JAX would remember where an old one was called from.
            def called(*args: Any) -> Any:
                return function(*args)

            made = jax.make_jaxpr(called, return_shape=True)(*jax.tree.unflatten(tree, specs))
            self._traced[key] = _Traced(called, *made, {})
        return self._traced[key]

    def __call__(self, *args: Any) -> Any:
        closed, outputs = self.program(*args)
        results = core.jaxpr_as_fun(closed)(*jax.tree.leaves(args))
        # A constant that is returned comes back as a number of Python's.
        return jax.tree.unflatten(jax.tree.structure(outputs), map(jnp.asarray, results))


class Part(TracedOnce):
    """One of several things that a function returns, of the program that there is for all."""

    def __init__(self, whole: TracedOnce, number: int) -> None:
        super().__init__(lambda *args: whole(*args)[number])
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
