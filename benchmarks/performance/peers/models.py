"""The exercise in hand-written JAX, Linen and NNX, and in NNX without a lift."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.performance.peers.column import Column, Weights
from shared.bench.pure_jax import pure
from shared.bench.rows import jitted
from shared.cases import CASES
from shared.models.subject import Runner, Subject, linen_runner, nnx_runner, subject_of_case, total
from shared.trees import unflatten


def columns(weights: Weights, x: np.ndarray) -> dict[str, Column]:
    """The first is what the others are compared with; the second is the same, compiled anew."""
    return {
        "jax": plain_jax(weights, x),
        "jax again": plain_jax(weights, x),
        "linen": linen(weights, x),
        "nnx": nnx(weights, x),
        "nnx layer list": nnx_layer_list(weights, x),
    }


def plain_jax(weights: Weights, x: np.ndarray) -> Column:
    """vmap(scan), by hand."""
    plain = pure(_subject("shared", weights, x).case)
    assert plain is not None

    def gradient(leaves, x):
        return jax.value_and_grad(lambda leaves: total(plain.forward(leaves, x)))(leaves)

    held = plain.leaves(_linen_variables(weights))
    return _column(plain.forward, gradient, held, x, lambda leaves: Weights(*leaves))


def linen(weights: Weights, x: np.ndarray) -> Column:
    """nn.vmap(nn.scan)."""
    runner = linen_runner(_subject("shared", weights, x))
    return _of_runner(runner, _linen_variables(weights), x, lambda leaves: Weights(*leaves))


def nnx(weights: Weights, x: np.ndarray) -> Column:
    """nnx.vmap(nnx.scan), in the recommended form: split once, flat leaves."""
    runner = nnx_runner(_subject("shared", weights, x))
    named = {"bias": weights.bias, "kernel": weights.kernel}
    held = tuple(jnp.array(named[name.split("/")[-1]]) for name in runner.names)
    return _of_runner(runner, held, x, lambda leaves: Weights(*leaves))


def nnx_layer_list(weights: Weights, x: np.ndarray) -> Column:
    """A Python loop over layers with arrays of their own, in the same form."""
    runner = nnx_runner(_subject("layer_list", weights, x))
    held = []
    for name in runner.names:
        number, leaf = (name.split("/")[place] for place in (-3, -1))
        held.append(jnp.array(getattr(weights, leaf)[int(number)]))
    return _of_runner(
        runner,
        tuple(held),
        x,
        lambda leaves: Weights(np.stack(leaves[::2]), np.stack(leaves[1::2])),
    )


def _subject(name: str, weights: Weights, x: np.ndarray) -> Subject:
    num_layers, features = weights.bias.shape
    sizes = {"num_layers": num_layers, "features": features, "batch_size": len(x)}
    return subject_of_case(dataclasses.replace(CASES[name], **sizes))


def _linen_variables(weights: Weights) -> Any:
    paths = {"params/Dense_0/bias": weights.bias, "params/Dense_0/kernel": weights.kernel}
    return unflatten({path: jnp.array(leaf) for path, leaf in paths.items()})


def _of_runner(
    runner: Runner, held: Any, x: np.ndarray, read: Callable[[list[Any]], Weights]
) -> Column:
    assert jax.tree.map(jnp.shape, held) == jax.tree.map(jnp.shape, runner.held)
    column = _column(runner.functions["forward"], runner.functions["gradient"], held, x, read)
    return dataclasses.replace(column, outputs=lambda returned: np.asarray(returned[0]))


def _column(
    forward: Callable[..., Any],
    gradient: Callable[..., Any],
    held: Any,
    x: np.ndarray,
    read: Callable[[list[Any]], Weights],
) -> Column:
    """Of functions of the weights and the inputs.

    Args:
      read: the leaves of a gradient -> as the weights are.
    """
    own = jnp.array(x)
    return Column(
        jitted(forward, held, own),
        jitted(gradient, held, own),
        np.asarray,
        lambda returned: (
            float(returned[0]),
            read([np.asarray(leaf) for leaf in jax.tree.leaves(returned[1])]),
        ),
    )
