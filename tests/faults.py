"""Faults to plant in an implementation: a check that none of them trips proves nothing."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from shared.batch import is_floating
from shared.interface import Implementation
from shared.trees import flatten, unflatten


@dataclasses.dataclass(frozen=True)
class Faulty:
    """`base` with a change to what it makes, to what it is given or to what it returns."""

    base: Implementation
    on_init: Callable[[Any, Any], Any] = lambda case, variables: variables
    on_variables: Callable[[Any, Any], Any] = lambda case, variables: variables
    on_output: Callable[[Any, Any], Any] = lambda x, y: y

    def init(self, case, seed, init="linen"):
        return self.on_init(case, self.base.init(case, seed, init))

    def apply(self, case, variables, x_batch, *more):
        outputs, updates = self.base.apply(case, self.on_variables(case, variables), x_batch, *more)
        if isinstance(outputs, tuple):
            return (self.on_output(x_batch, outputs[0]), *outputs[1:]), updates
        return self.on_output(x_batch, outputs), updates


@dataclasses.dataclass(frozen=True)
class Jitted:
    """`base`, of which each case is compiled once for all faults."""

    base: Implementation

    def init(self, case, seed, init="linen"):
        return _jitted(self.base.init, case, seed, init)()

    def apply(self, case, variables, *inputs):
        return _jitted(self.base.apply, case)(variables, *inputs)


@functools.cache
def _jitted(function, *args):
    return jax.jit(functools.partial(function, *args))


def _on(name, change):
    """A change to the leaves called `name`."""

    def changed(case, variables):
        leaves = flatten(variables)
        for path in leaves:
            if path.endswith("/" + name):
                leaves[path] = change(case.leaf(path), jnp.asarray(leaves[path]))
        return unflatten(leaves)

    return changed


def _on_layers(change):
    """A change to the kernels of all layers (N, ...), wherever their layer axis is."""

    def changed(case, variables):
        leaves = flatten(variables)
        alone = [path for path in leaves if path.endswith("/kernel")]
        for path in list(alone):
            axes = case.leaf(path).axes
            if "layers" in axes:
                axis = axes.index("layers")
                layers = change(jnp.moveaxis(jnp.asarray(leaves[path]), axis, 0))
                leaves[path] = jnp.moveaxis(layers, 0, axis)
                alone.remove(path)
        if len(alone) > 1:  # those of a list
            leaves |= zip(alone, change(jnp.stack([leaves[path] for path in alone])), strict=True)
        return unflatten(leaves)

    return changed


def _flipped(kernels):
    return kernels[::-1]


def _same_everywhere(kernels):
    return jnp.broadcast_to(kernels[:1], kernels.shape)


SQUARE = {"in", "out"}


def _turned(row, kernel):
    if not {*row.axes} >= SQUARE:
        return kernel
    return jnp.swapaxes(kernel, row.axes.index("in"), row.axes.index("out"))


def _added(x, y):
    """y + x; each token to all of its scores."""
    return y + jnp.reshape(x, jnp.shape(x) + (1,) * (y.ndim - jnp.ndim(x)))


FORWARD_FAULTS = {
    "transposed square kernel": {"on_variables": _on("kernel", _turned)},
    "layers swapped": {"on_variables": _on_layers(_flipped)},
    "dropped bias": {"on_variables": _on("bias", lambda _, b: b * 0)},
    "lost scale": {"on_variables": _on("kernel", lambda _, w: w * 1.0001)},
    "residual left in": {"on_output": _added},
    "examples permuted": {"on_output": lambda x, y: y[::-1]},
    "rounded to bfloat16": {"on_output": lambda x, y: y.astype(jnp.bfloat16).astype(y.dtype)},
}
GRADIENT_FAULTS = {
    "stop_gradient on the params": {"on_variables": lambda _, v: jax.lax.stop_gradient(v)},
    "stop_gradient on the output": {"on_output": lambda x, y: jax.lax.stop_gradient(y)},
    "residual left in the gradient by the inputs": {"on_output": _added},
    "straight-through output": {
        "on_output": lambda x, y: _added(x, jax.lax.stop_gradient(_added(-x, y)))
    },
}
INIT_FAULTS = {
    "shared key for all layers": {"on_init": _on_layers(_same_everywhere)},
    "layers swapped": {"on_init": _on_layers(_flipped)},
    "transposed square kernel": {"on_init": _on("kernel", _turned)},
    "bias not zero": {"on_init": _on("bias", lambda _, b: b + 1e-6)},
    "negative zero": {"on_init": _on("bias", lambda _, b: -b)},
}
SHAPE_FAULTS = {
    "flattened": {"on_output": lambda x, y: y.reshape(-1)},
    "extra axis": {"on_output": lambda x, y: y[None]},
    "one example short": {"on_output": lambda x, y: y[:-1]},
    "half precision": {"on_output": lambda x, y: y.astype(jnp.float16)},
}
# Those that are none: where no input has a gradient, no kernel is square, results are in bfloat16
# anyhow, all layers have the same params.
OF_INPUT_GRADIENTS = ("residual left in the gradient by the inputs",)
OF_SQUARE_KERNELS = ("transposed square kernel",)
OF_PRECISION = ("rounded to bfloat16",)
OF_OWN_LAYERS = ("shared key for all layers", "layers swapped")
# Without any, a check is to pass.
NO_FAULT: dict[str, dict] = {"no fault": {}}
PROGRAM_FAULTS = {
    "another operation": {"on_output": lambda x, y: y * 1.0000001},
    "layers swapped": FORWARD_FAULTS["layers swapped"],
}


def caught(case, fault, match=None):
    """That a check fails; or, where the fault is none in a case, that it passes."""
    none = (*NO_FAULT, *(() if case.has_own_layers else OF_OWN_LAYERS))
    if not any({*leaf.axes} >= SQUARE for leaf in case.leaves):
        none += OF_SQUARE_KERNELS
    if case.computes_in == "bfloat16":
        none += OF_PRECISION
    if not any(map(is_floating, case.inputs)):
        none += OF_INPUT_GRADIENTS
    if fault in none:
        return contextlib.nullcontext()
    return pytest.raises(AssertionError, match=match)
