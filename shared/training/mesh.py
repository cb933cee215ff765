"""Training on several devices: the mesh, where each leaf of a state lies on it, the same step."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from shared.training.config import Config, optimizer
from shared.training.leaves import path_of
from shared.training.text import Text
from shared.training.trainer import Trainer

DATA, MODEL = "data", "model"
AXES = (DATA, MODEL)

# Which axis of a leaf lies over `model`, counted from the last, by the end of its path: heads of
# the attention, `hidden` of the two layers. So a block needs one sum over `model` after `out` and
# one after `down`. The same ends are those of the moments, in both APIs.
_OVER_MODEL: dict[tuple[str, ...], int] = {
    ("query", "kernel"): 2,
    ("query", "bias"): 2,
    ("key", "kernel"): 2,
    ("key", "bias"): 2,
    ("value", "kernel"): 2,
    ("value", "bias"): 2,
    ("out", "kernel"): 3,
    ("up", "kernel"): 1,
    ("up", "bias"): 1,
    ("down", "kernel"): 2,
}


def make_mesh(sizes: Mapping[str, int]) -> Mesh:
    """The mesh of all devices of all processes.

    Args:
      sizes: {"data", "model": on how many devices}, whose product is the number of devices.
    """
    sizes = {axis: sizes.get(axis, 1) for axis in AXES}
    assert math.prod(sizes.values()) == jax.device_count(), sizes
    # The constraints that Flax sets know axes of no other type.
    kinds = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=kinds)


def partition_spec(path: tuple, shape: tuple[int, ...]) -> PartitionSpec:
    """Over which axes of the mesh a leaf of a state lies, of its path and its shape.

    A leaf that has no axis for `model` is whole on every device.
    """
    # What a variable of NNX holds, is the last step to it.
    words = path_of(path).removesuffix("/value").split("/")
    place = _OVER_MODEL.get(tuple(words[-2:]))
    if place is None:
        return PartitionSpec()
    return PartitionSpec(*(MODEL if len(shape) - i == place else None for i in range(len(shape))))


def shardings(tree: Any, mesh: Mesh) -> Any:
    """The sharding of each leaf of a state, or of its shapes."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, partition_spec(path, leaf.shape)), tree
    )


class OnMesh:
    """A trainer whose states lie on a mesh, and whose windows each process has whole.

    It computes what `trainer` does; the sums over examples, heads and `hidden` are made in another
    order. All processes have to make the same calls.
    """

    def __init__(self, trainer: Trainer, mesh: Mesh, state: Any):
        """
        Args:
          trainer: of one device.
          mesh: of `make_mesh`.
          state: one like all those to come, or its shapes.
        """
        self.trainer, self.mesh = trainer, mesh
        self._whole = NamedSharding(mesh, PartitionSpec())
        # What comes out lies as what went in did: the next step is the same program.
        self._train_step = jax.jit(
            trainer.train_step,
            donate_argnums=0,
            out_shardings=(shardings(state, mesh), self._whole),
        )
        self._evaluate = jax.jit(trainer.evaluate, out_shardings=self._whole)
        self._gather = jax.jit(lambda tree: tree, out_shardings=self._whole)
        self.init = trainer.init
        self.to_checkpoint, self.from_checkpoint = trainer.to_checkpoint, trainer.from_checkpoint

    def train_step(self, state: Any, windows: jax.Array | np.ndarray) -> tuple[Any, jax.Array]:
        state, loss = self._train_step(state, self._placed(windows))
        return state, _waited(loss)

    def evaluate(self, state: Any, windows: jax.Array | np.ndarray) -> jax.Array:
        return _waited(self._evaluate(state, self._placed(windows)))

    def params_of(self, state: Any) -> dict[str, Any]:
        """The params, each whole, as NumPy arrays of this process."""
        return jax.device_get(self._gather(self.trainer.params_of(state)))

    def _placed(self, windows: jax.Array | np.ndarray) -> jax.Array:
        """Windows over `data`; those that cannot be parted are on each device."""
        is_parted = len(windows) % self.mesh.shape[DATA] == 0
        spec = PartitionSpec(DATA) if is_parted else PartitionSpec()
        sharding = NamedSharding(self.mesh, spec)
        return jax.make_array_from_callback(
            windows.shape, sharding, lambda index: np.asarray(windows[index])
        )


def on_mesh(trainer: Trainer, config: Config, text: Text, mesh: Mesh) -> tuple[OnMesh, Any]:
    """The trainer on the mesh, and the state before the first step; no device makes all of it."""
    case = config.case(len(text.characters))
    init = functools.partial(trainer.init, case, optimizer(config), config.seed)
    first = jax.jit(init, out_shardings=shardings(jax.eval_shape(init), mesh))()
    return OnMesh(trainer, mesh, first), first


def _waited(loss: jax.Array) -> jax.Array:
    """`loss`, computed already where collectives would wait for each other for ever.

    They do on CPUs of several processes, once many calls are started before the first has ended.
    """
    is_fragile = jax.process_count() > 1 and jax.default_backend() == "cpu"
    return jax.block_until_ready(loss) if is_fragile else loss
