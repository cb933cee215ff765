"""Training states of both APIs with equal weights, stepped with equal gradients, and saved."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from flax.training import train_state

from shared import find_weight_map
from shared.checkpoint.formats.table import open_checkpoint
from shared.trees import module_tree, unflatten

ADAMW = optax.adamw(1e-2, weight_decay=0.1)


def values_like(specs, seed):
    """Whole numbers for leaves {path: shape and dtype}: their sums do not depend on the order."""
    rng = np.random.default_rng(seed)
    return {
        path: jnp.asarray(rng.integers(-9, 10, spec.shape), spec.dtype)
        for path, spec in specs.items()
    }


def variables_of(weights):
    """Linen's variables with numbers."""
    leaves = values_like(weights.linen, 0)
    return {
        name: module_tree(
            {path: leaf for path, leaf in leaves.items() if path.split("/")[0] == name},
            weights.linen_places,
        )
        for name in dict.fromkeys(path.split("/")[0] for path in leaves)
    }


class States:
    """A pair's states in training after some steps, of both sides.

    Attributes:
      weights: the map that `find_weight_map` finds.
      linen: a `TrainState`, with a field for each collection.
      nnx: a module that holds a `model` and an `optimizer`.
    """

    def __init__(self, pair, optimizer=ADAMW, steps=3):
        self.weights = find_weight_map(pair)
        variables = variables_of(self.weights)
        self.linen = linen_state(pair.linen, variables, optimizer)
        self.nnx = nnx_state(pair.nnx, self.weights.to_pure_dict(variables), optimizer)
        rest = {name: tree for name, tree in variables.items() if name != "params"}
        params = {p: spec for p, spec in self.weights.linen.items() if p.startswith("params/")}
        # Jitted, both round alike: what is done to an element is the same expression.
        linen_step = jax.jit(lambda state, grads: state.apply_gradients(grads=grads))
        nnx_step = nnx.jit(lambda state, grads: state.optimizer.update(state.model, grads))
        for seed in range(1, 1 + steps):
            grads = unflatten(values_like(params, seed))["params"]
            self.linen = linen_step(self.linen, grads)
            moved = nnx.state(self.nnx.model, nnx.Param)
            given = self.weights.to_nnx({**rest, "params": grads})["params"]
            nnx.replace_by_pure_dict(moved, given)
            nnx_step(self.nnx, moved)


def linen_state(module, variables, optimizer, **others):
    """A TrainState with a field for each collection beside params."""
    rest = {name: tree for name, tree in variables.items() if name != "params"} | others
    kind: Any = type(
        "State", (train_state.TrainState,), {"__annotations__": dict.fromkeys(rest, Any)}
    )
    state = kind.create(
        apply_fn=module.apply, params=variables.get("params", {}), tx=optimizer, **rest
    )
    return state.replace(step=jnp.int32(state.step))


class NnxState(nnx.Module):
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer


def nnx_state(build, values, optimizer, wrt=nnx.Param):
    """A module that holds a model with these values and its optimizer."""
    model = build(nnx.Rngs(0, dropout=1))
    nnx.update(model, values)
    return NnxState(model, nnx.Optimizer(model, optimizer, wrt=wrt))


def save(path, tree):
    """Saves a pytree as most programs do."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    return str(path)


def save_managed(path, tree, step=3):
    """Saves a pytree as a step of a CheckpointManager."""
    with ocp.CheckpointManager(path) as manager:
        manager.save(step, args=ocp.args.StandardSave(tree))
    return str(path)


def restored(path, target):
    """What StandardCheckpointer makes of a checkpoint for an abstract target."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, target)


def held(path, empty=False):
    """{path: (Leaf, its numbers)} of a checkpoint, with what is empty or without."""
    reader = open_checkpoint(str(path))
    return {
        name: (leaf, None if leaf.kind == "empty" else reader.read(name))
        for name, leaf in reader.leaves.items()
        if empty or leaf.kind != "empty"
    }


def assert_same(made, expected, empty=False):
    """Stops unless two checkpoints have the same leaves, bit for bit."""
    one, two = held(made, empty), held(expected, empty)
    assert one.keys() == two.keys(), str(one.keys() ^ two.keys())
    for path, (leaf, array) in two.items():
        assert one[path][0] == leaf, path
        if array is not None:
            np.testing.assert_array_equal(one[path][1], array, strict=True, err_msg=str(path))
