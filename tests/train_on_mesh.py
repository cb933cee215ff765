"""Training on eight CPU devices, of one process; prints JSON of what it saw.

python train_on_mesh.py MESH|gradients
"""

import dataclasses
import functools
import json
import re
import sys
import types

import jax
import numpy as np
import optax
from jax.sharding import PartitionSpec

from shared.bench.compilations import count_compilations
from shared.training.config import Config
from shared.training.leaves import path_of
from shared.training.loss import cross_entropy
from shared.training.mesh import OnMesh, make_mesh, on_mesh, shardings
from shared.training.run import first_state, steps, validation_loss
from shared.training.text import batch, tokens_of, topics
from shared.training.trainer import load_trainer

# Much is dropped: a mask that is another one shows.
CONFIG = Config(steps=10, batch_size=8, length=12, num_layers=2, features=8, rate=0.3)
TEXT = tokens_of(topics()[:3000], CONFIG.length)
LINEN, NNX = load_trainer("linen"), load_trainer("nnx")


def main(what):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    if what == "gradients":
        found = gradients()
    else:
        runs = {"linen": trained(LINEN, what), "nnx": trained(NNX, what)}
        found = {"one device": trained(LINEN), what: runs}
    sys.stdout.write(f"{json.dumps(found)}\n")


def mesh_of(text):
    pairs = (word.split(":") for word in text.split(","))
    return make_mesh({axis: int(size) for axis, size in pairs})


def trained(trainer, mesh=None):
    """A run on one device, or on a mesh: its losses, its params, and how it lay."""
    if mesh is None:
        state = first_state(trainer, CONFIG, TEXT)
    else:
        trainer, state = on_mesh(trainer, CONFIG, TEXT, mesh_of(mesh))
    params = numbers(trainer.params_of(state))
    placed, first = placement(state), jax.tree.leaves(state)
    run = steps(trainer, state, CONFIG, TEXT, done=0)
    losses = [float(next(run).loss)]

    def rest():
        nonlocal state
        for made in run:
            losses.append(float(made.loss))
            state = made.state

    compiled = count_compilations(rest)
    return {
        "losses": losses,
        "validation": validation_loss(trainer, state, CONFIG, TEXT),
        "first params": params,
        "params": numbers(trainer.params_of(state)),
        "placement": placed,
        "last placement": placement(state),
        "donated": all(leaf.is_deleted() for leaf in first),
        "compiled after the first step": compiled,
        "collectives": [] if mesh is None else collectives(trainer, state),
    }


def collectives(trainer, state):
    """The kinds of collectives of a step."""
    windows = trainer._placed(batch(TEXT.train, 0, 0, CONFIG.batch_size, CONFIG.length))
    text = trainer._train_step.lower(state, windows).compile().as_text()
    kinds = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    return sorted(set(re.findall(rf" ({kinds})(?:-start)?\(", text)))


def placement(state):
    """{the end of a leaf's path: what one device holds of it, of its param and its moments}."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        # What a variable of NNX holds is called `value`.
        words = path_of(path).removesuffix("/value").split("/")
        tail = "/".join(words[-2:])
        shapes = found.setdefault(tail, [])
        shapes.append(list(leaf.addressable_shards[0].data.shape))
    return found


def numbers(params):
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(params)]


def gradients():
    """{who makes it: the gradient of one step}, each on eight devices but the first."""
    config = dataclasses.replace(CONFIG, rate=0.0)
    # What Adam does with a gradient does not depend on its size: this takes it as it is.
    init = functools.partial(LINEN.init, config.case(len(TEXT.characters)), optax.sgd(1.0), 0)
    windows = batch(TEXT.train, 0, 0, config.batch_size, config.length)
    mesh = make_mesh({"data": 8})
    placed = jax.jit(init, out_shardings=shardings(jax.eval_shape(init), mesh))
    found = {"one device": gradient(LINEN, jax.jit(init)(), windows)}
    for name, step in {
        "on the mesh": LINEN.train_step,
        "a mean over the batch": by_hand(mesh, is_mean_of_all=True),
        "a mean per device": by_hand(mesh, is_mean_of_all=False),
    }.items():
        trainer = types.SimpleNamespace(**{**vars(LINEN), "train_step": step})
        state = placed()
        found[name] = gradient(OnMesh(trainer, mesh, state), state, windows)
    return found


def gradient(trainer, state, windows):
    before = jax.device_get(trainer.params_of(state))
    after = jax.device_get(trainer.params_of(trainer.train_step(state, windows)[0]))
    return numbers(jax.tree.map(np.subtract, before, after))


def by_hand(mesh, is_mean_of_all):
    """A step in which each device computes a loss of its own windows.

    JAX adds the gradients of what all devices have, one of each device: where each loss is a mean
    of its own, the sum is as many times too large as there are devices.
    """

    def train_step(state, windows):
        def of_device(params, windows):
            def loss(params):
                rngs = {"dropout": jax.random.key(0)}
                logits = state.apply_fn({"params": params}, windows[:, :-1], rngs=rngs)
                own = cross_entropy(logits, windows[:, 1:])
                return jax.lax.pmean(own, "data") if is_mean_of_all else own

            value, grads = jax.value_and_grad(loss)(params)
            return value if is_mean_of_all else jax.lax.pmean(value, "data"), grads

        specs = PartitionSpec(), PartitionSpec("data")
        parted = jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=PartitionSpec())
        value, grads = parted(state.params, windows)
        return state.apply_gradients(grads=grads), value

    return train_step


if __name__ == "__main__":
    main(sys.argv[1])
