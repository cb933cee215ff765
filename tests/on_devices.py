"""The sharded stack on eight CPU devices, of one process or of several; prints JSON of what it saw.

python on_devices.py PROCESS NUM_PROCESSES PORT
"""

import dataclasses
import hashlib
import json
import math
import re
import sys

import jax
from flax import linen as nn
from flax import nnx
from helpers import lowered_text
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import linen_impl.sharding
import nnx_impl.sharding
from shared.batch import seeded_batch
from shared.cases import CASES

SEED = 3
CASE = dataclasses.replace(CASES["sharding"], num_layers=6, features=16, batch_size=8)

# {placement: (the sizes of the mesh, on which of its axes a logical axis lies)}
PLACEMENTS = {
    "fsdp": ((8, 1), {"in": "data"}),
    "tensor parallel": ((1, 8), {"out": "model"}),
    "both": ((2, 4), {"in": "data", "out": "model"}),
}


def main(process, num_processes, port):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8 // num_processes)
    if num_processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes, process)
    assert (jax.device_count(), jax.local_device_count()) == (8, 8 // num_processes)
    found = {name: on_mesh(*placement) for name, placement in PLACEMENTS.items()}
    # On a line of its own: the library of collectives prints too.
    sys.stdout.write(f"\n{json.dumps(found)}\n")
    if num_processes > 1:
        jax.distributed.shutdown()


def on_mesh(sizes, axis_of):
    """{"linen", "nnx": what it does at one placement}."""
    # Linen cannot do with the default, axes of the type Explicit.
    mesh = jax.make_mesh(sizes, ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    rules = [(name, axis_of.get(name)) for name in ("layers", "in", "out", "features")]
    x = seeded_batch(CASE, SEED).x
    by_example = NamedSharding(mesh, PartitionSpec("data"))
    x_batch = jax.make_array_from_callback(x.shape, by_example, lambda index: x[index])

    args = (SEED, CASE.num_layers, CASE.features, mesh)
    with nn.logical_axis_rules(rules), jax.set_mesh(mesh):
        model = linen_impl.sharding.Sharded(CASE.num_layers, CASE.features)
        graphdef = nnx.graphdef(
            nnx.eval_shape(lambda: nnx_impl.sharding.Sharded(6, 16, rngs=nnx.Rngs(0)))
        )
        variables = linen_impl.sharding.init_sharded(*args)
        state = nnx_impl.sharding.init_sharded(*args)
        linen = lambda v, x: model.apply(v, x, None)[0]  # noqa: E731
        return {
            "linen": seen(linen, variables, x_batch),
            "nnx": seen(lambda s, x: nnx.merge(graphdef, s)(x), state, x_batch),
            "all gathered first": seen(lambda v, x: linen(whole(v), x), variables, x_batch),
        }


def seen(call, params, x_batch):
    """What a call does, and where its arrays lie."""
    compiled = jax.jit(call).lower(params, x_batch).compile()
    activation = compiled(params, x_batch)
    gradient = jax.grad(lambda params, x_batch: call(params, x_batch).sum())
    shardings = jax.tree.map(lambda leaf: leaf.sharding, params)
    placed = jax.jit(gradient, out_shardings=shardings)(params, x_batch)
    return {
        "params": shards(params),
        "activation": shards(activation),
        "gradients": shards(placed),
        "gradients left to XLA": shards(jax.jit(gradient)(params, x_batch)),
        "values of params": [leaf.tolist() for leaf in jax.tree.leaves(numbers(params))],
        "values of activation": numbers(activation).tolist(),
        "values of gradients": [leaf.tolist() for leaf in jax.tree.leaves(numbers(placed))],
        "program": hashlib.sha256(lowered_text(call, params, x_batch).encode()).hexdigest(),
        "sizes of collectives": sizes_of_collectives(compiled.as_text()),
    }


def shards(tree):
    """The shape of what one device holds of each leaf."""
    return [list(leaf.addressable_shards[0].data.shape) for leaf in jax.tree.leaves(tree)]


def whole(tree):
    """All of each leaf on each device."""
    return jax.jit(lambda tree: jax.lax.with_sharding_constraint(tree, PartitionSpec()))(tree)


def numbers(tree):
    return jax.device_get(whole(tree))


def sizes_of_collectives(text):
    """How many numbers each collective of a compiled program leaves on a device."""
    names = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    results = re.findall(rf"= \w+\[([\d,]*)\]\S* (?:{names})(?:-start)?\(", text)
    return [math.prod(map(int, dims.split(","))) for dims in results]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
