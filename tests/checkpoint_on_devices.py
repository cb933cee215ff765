"""A checkpoint on eight CPU devices, of one process or of several: saved, or restored.

python checkpoint_on_devices.py save|restore PROCESS NUM_PROCESSES PORT DIRECTORY
"""

import math
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from stored_trees import OPTIMIZERS, LinenStack, NnxStack, linen_state, nnx_state

OPTIMIZER = OPTIMIZERS["clipped adamw"]
# What is saved lies on another mesh than what is restored.
SIZES = {"save": (4, 2), "restore": (2, 4)}


def main(do, process, num_processes, port, directory):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8 // num_processes)
    if num_processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes, process)
    assert jax.device_count() == 8
    mesh = jax.make_mesh(SIZES[do], ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    with ocp.StandardCheckpointer() as checkpointer:
        if do == "save":
            # At this size an axis is found for each of the two of the mesh.
            checkpointer.save(directory, on(mesh, linen_state(LinenStack(features=8), OPTIMIZER)))
        else:
            restored(checkpointer, mesh, directory)
    if num_processes > 1:
        jax.distributed.shutdown()


def on(mesh, state):
    """A state parted over a mesh."""

    def place(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            everywhere = NamedSharding(mesh, PartitionSpec())
            return jax.jit(lambda: jax.random.clone(leaf), out_shardings=everywhere)()
        values = np.asarray(leaf)
        return jax.make_array_from_callback(
            values.shape, sharding_of(mesh, values), lambda index: values[index]
        )

    return jax.tree.map(place, state)


def sharding_of(mesh, leaf):
    """Over `data` and `model` along the last axes that can be parted so."""
    spec = [None] * leaf.ndim
    for axis, name in zip(reversed(range(leaf.ndim)), mesh.axis_names, strict=False):
        if leaf.shape[axis] % mesh.shape[name] == 0:
            spec[axis] = name
    return NamedSharding(mesh, PartitionSpec(*spec))


def restored(checkpointer, mesh, directory):
    """Restores the state of NNX where it is to lie, and holds it against that of Linen."""
    linen = linen_state(LinenStack(features=8), OPTIMIZER)
    abstract = jax.eval_shape(lambda: nnx_state(NnxStack(nnx.Rngs(0), features=8), OPTIMIZER))

    def placed(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        sharding = NamedSharding(mesh, PartitionSpec()) if is_key else sharding_of(mesh, leaf)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    state = checkpointer.restore(directory, jax.tree.map(placed, abstract))
    kernel = state["model"]["layers"]["dense"]["kernel"]
    assert len(kernel.get_value().sharding.device_set) == 8
    shard = kernel.get_value().addressable_shards[0].data
    assert shard.size == math.prod(kernel.shape) // 8
    expected = linen.params["layers"]["dense"]["kernel"]
    np.testing.assert_array_equal(kernel.get_value(), expected, strict=True)
    mu = state["optimizer"]["opt_state"][1][0]["mu"]["layers"]["dense"]["kernel"].get_value()
    np.testing.assert_array_equal(mu, linen.opt_state[1][0].mu["layers"]["dense"]["kernel"])
    sys.stdout.write(f"\n{shard.shape}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5])
