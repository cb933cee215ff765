"""The interface of a training: a state, and functions of it."""

import importlib
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol, cast

from shared.cases import Case
from shared.interface import IMPLEMENTATIONS

if TYPE_CHECKING:
    import jax
    import numpy as np
    import optax

    Windows = jax.Array | np.ndarray


class Trainer(Hashable, Protocol):
    """How one implementation trains the transformer. Laws:

    * both make the same state of a seed, and the same of it in each step, up to the names of its
      leaves: params, moments, losses;
    * a state is a pytree: from its leaves alone a run goes on as it would have.
    """

    def init(self, case: Case, optimizer: "optax.GradientTransformation", seed: int) -> Any:
        """The state before the first step."""
        ...

    def train_step(self, state: Any, windows: "Windows") -> "tuple[Any, jax.Array]":
        """The state after a step on `windows` (B, T + 1), and the loss before it, in nats a token.

        The state that is given is not there afterwards: its memory is that of the new one.
        """
        ...

    def evaluate(self, state: Any, windows: "Windows") -> "jax.Array":
        """The loss of `windows` (B, T + 1), where nothing is dropped."""
        ...

    def params_of(self, state: Any) -> dict[str, Any]:
        """The params, a plain nested dict, as `Implementation` takes them."""
        ...

    def to_checkpoint(self, state: Any) -> Any:
        """What of a state is saved, as users of the API save it: a pytree of arrays."""
        ...

    def from_checkpoint(self, state: Any, checkpoint: Any) -> Any:
        """The state that was saved; `state` is one of the same run."""
        ...


def load_trainer(name: str) -> Trainer:
    """The trainer called `name`, "linen" or "nnx". Imports no other."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"implementation is {' or '.join(IMPLEMENTATIONS)}, not {name!r}")
    return cast(Trainer, importlib.import_module(f"{name}_impl.training"))
