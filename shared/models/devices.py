"""Where the arrays of a benchmark are: on the one device, or the examples spread over all."""

from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def spread(inputs: tuple) -> tuple:
    """The inputs, the first axis of each over all devices; one that cannot be parted is on each."""
    if jax.device_count() == 1:
        return inputs

    def placed(x: jax.Array) -> jax.Array:
        is_parted = x.ndim and x.shape[0] and x.shape[0] % jax.device_count() == 0
        return jax.device_put(x, _sharding("devices") if is_parted else _sharding())

    return jax.tree.map(placed, inputs)


def on_each(arrays: Any) -> Any:
    """A tree whose arrays each device has."""
    return arrays if jax.device_count() == 1 else jax.device_put(arrays, _sharding())


def module_on_each(module: nnx.Module) -> nnx.Module:
    """A module whose variables each device has."""
    graphdef, state = nnx.split(module)
    return nnx.merge(graphdef, on_each(state))


def _sharding(*axes: str) -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.devices()), ("devices",)), PartitionSpec(*axes))
