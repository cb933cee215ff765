"""Gradients with respect to every weight and every floating input."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.checks.base import Check, Ported, compare, worst_of
from shared.models.pure import PureModel


def check_gradients(ported: Ported) -> Check:
    """Of a random projection of the outputs, sample by sample, under NNX's names."""
    linen, nnx = jax.jit(gradients_of(ported.linen)), jax.jit(gradients_of(ported.nnx))
    checks = []
    for sample in range(ported.samples):
        leaves, inputs = ported.random_leaves(sample), ported.inputs(sample)
        first_input, first = linen(leaves[0], inputs)
        second_input, second = nnx(leaves[1], inputs)
        moved = move_floating(ported, first)
        moved |= {f"input{i}": leaf for i, leaf in enumerate(first_input)}
        second = dict(second) | {f"input{i}": leaf for i, leaf in enumerate(second_input)}
        checks.append(compare("gradients", moved, second, ported.limits, derived=True))
    return worst_of(checks)


def gradients_of(model: PureModel) -> Callable[[Any, Any], tuple[list[Any], dict[str, Any]]]:
    """(leaves, inputs) -> gradients of the floating ones, (of inputs, {path: of leaf})."""

    def gradients(leaves, inputs):
        flat, tree = jax.tree.flatten(inputs)
        moving = {path: leaf for path, leaf in leaves.items() if _floating(leaf)}
        floating = [leaf for leaf in flat if _floating(leaf)]

        def projection(moving, floating):
            again = iter(floating)
            inputs = tree.unflatten([next(again) if _floating(leaf) else leaf for leaf in flat])
            outputs, _ = model.apply({**leaves, **moving}, inputs)
            return sum(
                jnp.vdot(_weights(leaf), leaf.astype(jnp.float32))
                for leaf in jax.tree.leaves(outputs)
                if _floating(leaf)
            )

        of_leaves, of_inputs = jax.grad(projection, argnums=(0, 1))(moving, floating)
        return of_inputs, of_leaves

    return gradients


def move_floating(ported: Ported, leaves: dict[str, Any]) -> dict[str, Any]:
    """Linen's gradients under NNX's names."""
    every = {
        path: leaves.get(path, np.zeros(spec.shape, spec.dtype))
        for path, spec in ported.linen.leaves.items()
    }
    moved = ported.weights.move(every, to="nnx")
    return {path: leaf for path, leaf in moved.items() if _floating(ported.nnx.leaves[path])}


def _weights(leaf: Any) -> jax.Array:
    """A weight of its own for every output, so that no two can be taken for each other."""
    return jnp.sin(1 + jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape)


def _floating(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
