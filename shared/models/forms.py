"""The ways to call an NNX module under `jit`: the same mathematics, other work around it."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

Call = Callable[..., Any]


def changed(module: nnx.Module) -> Any:
    """The variables that a call may change, statistics or a cache: `jax.jit` has to return them."""
    return nnx.state(module, nnx.Not(nnx.Any(nnx.Param, nnx.RngState)))


def split_leaves(module: nnx.Module, call: Call) -> Call:
    """Split once; the flat leaves of the state are the arguments of `jax.jit`."""
    graphdef, state = nnx.split(module)
    leaves, tree = jax.tree.flatten(state)

    @jax.jit
    def run(leaves, *inputs):
        module = nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))
        return call(module, *inputs), changed(module)

    taken = tuple(leaves)
    return lambda *inputs: run(taken, *inputs)


def split_state(module: nnx.Module, call: Call) -> Call:
    """Split once; the state is the argument of `jax.jit`."""
    graphdef, state = nnx.split(module)

    @jax.jit
    def run(state, *inputs):
        module = nnx.merge(graphdef, state)
        return call(module, *inputs), changed(module)

    return lambda *inputs: run(state, *inputs)


def module_as_pytree(module: nnx.Module, call: Call) -> Call:
    """The module itself is the argument of `jax.jit`, which would lose what the call changes."""

    @jax.jit
    def run(module, *inputs):
        return call(module, *inputs), changed(module)

    return lambda *inputs: run(module, *inputs)


def jit_partial(module: nnx.Module, call: Call) -> Call:
    """`nnx.jit_partial(..., graph=False)`: the module is flattened once."""
    return nnx.jit_partial(_fresh(call), module, graph=False)


def cached_partial(module: nnx.Module, call: Call) -> Call:
    """`nnx.cached_partial(nnx.jit(...), module)`: its graph is looked through once."""
    return nnx.cached_partial(nnx.jit(_fresh(call), graph=True, graph_updates=True), module)


def jit_of_tree(module: nnx.Module, call: Call) -> Call:
    """`nnx.jit(..., graph=False)`: the module is a tree."""
    return _jit(module, call, graph=False)


def jit_of_graph(module: nnx.Module, call: Call) -> Call:
    """`nnx.jit(..., graph_updates=False)`: the module is a graph, its variables written back."""
    return _jit(module, call, graph=True, graph_updates=False)


def jit_default(module: nnx.Module, call: Call) -> Call:
    """`nnx.jit` as it is by default: every variable is an output as well."""
    return _jit(module, call, graph=True, graph_updates=True)


def _jit(module: nnx.Module, call: Call, graph: bool, graph_updates: bool | None = None) -> Call:
    run = nnx.jit(_fresh(call), graph=graph, graph_updates=graph_updates)
    return lambda *inputs: run(module, *inputs)


def _fresh(call: Call) -> Call:
    """A function of its own: JAX keeps what it has compiled by function."""

    def run(module, *inputs):
        return call(module, *inputs)

    return run


# By what they are called in a report; the first is the one that is recommended.
FORMS: dict[str, Callable[[nnx.Module, Call], Call]] = {
    "split, flat leaves": split_leaves,
    "split, state": split_state,
    "module as pytree": module_as_pytree,
    "nnx.jit_partial": jit_partial,
    "nnx.cached_partial": cached_partial,
    "nnx.jit graph=False": jit_of_tree,
    "nnx.jit graph_updates=False": jit_of_graph,
    "nnx.jit": jit_default,
}
