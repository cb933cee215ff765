"""Saves one array in several placements on eight CPU devices, of one process or of several.

python orbax_on_devices.py PROCESS NUM_PROCESSES PORT FOLDER
"""

import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from orbax.checkpoint import v1


def main(process, num_processes, port, folder):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8 // num_processes)
    if num_processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes, process)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    x = np.arange(8 * 16 * 6, dtype=np.float32).reshape(8, 16, 6)
    tree = {
        name: jax.make_array_from_callback(
            x.shape, NamedSharding(mesh, PartitionSpec(*axes)), lambda index: x[index]
        )
        for name, axes in {
            "rows": ("data",),
            "both": ("model", "data"),
            "last": (None, None, "model"),
            "all": (),
        }.items()
    }
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{folder}/v0", tree)
    v1.save(f"{folder}/v1", tree)
    if num_processes > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4])
