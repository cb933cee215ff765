"""Training states of both APIs with equal weights, stepped with equal gradients, and saved."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from flax.training import train_state

from shared import find_weight_map
from shared.checkpoint.formats.table import open_checkpoint
from shared.models.pair import pure_pair
from shared.trees import unflatten

ADAMW = optax.adamw(1e-2, weight_decay=0.1)


def values_like(specs, seed):
    """Random numbers for leaves {path: shape and dtype}."""
    rng = np.random.default_rng(seed)
    return {
        path: jnp.asarray(rng.standard_normal(spec.shape).astype(spec.dtype))
        if jnp.issubdtype(spec.dtype, jnp.floating)
        else jnp.asarray(rng.integers(0, 100, spec.shape), spec.dtype)
        for path, spec in specs.items()
    }


class States:
    """A pair's state in training, of both sides.

    Attributes:
      weights: the map that `find_weight_map` finds.
      linen: a `TrainState`, with a field for each collection.
      nnx: a module that holds a `model` and an `optimizer`.
    """

    def __init__(self, pair, optimizer=ADAMW, steps=3):
        self.pure = pure_pair(pair)
        self.weights = find_weight_map(self.pure)
        variables = values_like(self.weights.linen, 0)
        self.variables = unflatten(variables)
        self.linen = linen_state(pair.linen, self.variables, optimizer)
        self.nnx = nnx_state(pair.nnx, self.weights.to_pure_dict(self.variables), optimizer)
        params = {p: spec for p, spec in self.weights.linen.items() if p.startswith("params/")}
        for seed in range(1, 1 + steps):
            self.step(values_like(params, seed))

    def step(self, gradients):
        """A step of both with Linen's gradients {path: array}."""
        self.linen = self.linen.apply_gradients(grads=unflatten(gradients)["params"])
        others = values_like(
            {p: s for p, s in self.weights.linen.items() if not p.startswith("params/")}, 0
        )
        given = self.weights.to_nnx(unflatten({**gradients, **others}))["params"]
        model, optimizer = self.nnx.model, self.nnx.optimizer
        held = nnx.state(model, nnx.Param)
        nnx.replace_by_pure_dict(held, given)
        optimizer.update(model, held)


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


def held(path):
    """{path: (Leaf, its numbers)} of a checkpoint, without what is empty."""
    reader = open_checkpoint(str(path))
    return {
        name: (leaf, reader.read(name))
        for name, leaf in reader.leaves.items()
        if leaf.kind != "empty"
    }


def assert_same(made, expected, only=lambda path: True):
    """Stops unless two checkpoints have the same leaves, bit for bit."""
    one, two = held(made), held(expected)
    one = {path: each for path, each in one.items() if only(path)}
    two = {path: each for path, each in two.items() if only(path)}
    assert one.keys() == two.keys(), str(one.keys() ^ two.keys())
    for path, (leaf, array) in two.items():
        assert one[path][0] == leaf, (path, one[path][0], leaf)
        np.testing.assert_array_equal(one[path][1], array, strict=True, err_msg=str(path))
