"""Equinox: layers stacked by `filter_vmap`, a scan over their arrays."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.performance.peers.column import Column, Found, Weights
from shared.bench.rows import jitted


def columns(weights: Weights, x: np.ndarray) -> Found:
    """Under `eqx.filter_jit`, and with the arrays of the partition under `jax.jit`."""
    return {"equinox filter_jit": filter_jit(weights, x), "equinox jit": jit(weights, x)}, ()


def filter_jit(weights: Weights, x: np.ndarray) -> Column:
    """The module itself is the argument: it is parted in each call."""
    layers, own = stacked(weights), jnp.array(x)
    forward = eqx.filter_jit(run)
    gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))
    return _column(lambda: forward(layers, own), lambda: gradient(layers, own))


def jit(weights: Weights, x: np.ndarray) -> Column:
    """The module is parted once: its arrays are the argument."""
    arrays, static = eqx.partition(stacked(weights), eqx.is_array)

    def of_arrays(arrays, x):
        return loss(eqx.combine(arrays, static), x)

    own = jnp.array(x)
    return _column(
        jitted(lambda arrays, x: run(eqx.combine(arrays, static), x), arrays, own),
        jitted(jax.value_and_grad(of_arrays), arrays, own),
    )


def stacked(weights: Weights) -> eqx.nn.Linear:
    """N layers as one, each array (N, ...). A weight of Equinox is (out, in)."""
    num_layers, features = weights.bias.shape
    keys = jax.random.split(jax.random.key(0), num_layers)
    layers = eqx.filter_vmap(lambda key: eqx.nn.Linear(features, features, key=key))(keys)
    arrays = jnp.array(weights.kernel.swapaxes(1, 2)), jnp.array(weights.bias)
    return eqx.tree_at(lambda layers: (layers.weight, layers.bias), layers, arrays)


def run(layers: eqx.nn.Linear, x: jax.Array) -> jax.Array:
    """vmap(scan): (B, F) -> (B, F)."""
    arrays, static = eqx.partition(layers, eqx.is_array)

    def layer(x, own):
        return jax.nn.relu(eqx.combine(own, static)(x)), None

    return jax.vmap(lambda x: jax.lax.scan(layer, x, arrays)[0])(x)


def loss(layers: eqx.nn.Linear, x: jax.Array) -> jax.Array:
    return jnp.sum(run(layers, x))


def _column(forward, gradient) -> Column:
    return Column(forward, gradient, np.asarray, _read)


def _read(returned) -> tuple[float, Weights]:
    value, layers = returned
    kernel = np.asarray(layers.weight).swapaxes(1, 2)
    return float(value), Weights(np.asarray(layers.bias), kernel)
