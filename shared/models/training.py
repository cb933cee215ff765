"""Both models of a pair as they are trained: its optimizer, and its own steps if it has some."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.errors import InputError
from shared.models.inputs import abstract_inputs, sample_inputs
from shared.models.linen_trainee import LinenTrainee
from shared.models.nnx import Port
from shared.models.nnx_trainee import NnxTrainee

if TYPE_CHECKING:
    from shared.models.pair import Pair


@dataclasses.dataclass(frozen=True)
class Training:
    """Both models with their optimizers.

    Attributes:
      has_steps: whether the user's own steps are taken; otherwise gradients are given.
      inputs: (seed) -> what these are called on; None: on the inputs of the pair.
    """

    linen: LinenTrainee
    nnx: NnxTrainee
    has_steps: bool
    inputs: Callable[[int], tuple] | None


def check_training(pair: "Pair") -> None:
    """Stops at fields of a pair, of its training, that do not fit.

    Raises:
      InputError: one is of another kind, or one is missing.
    """
    for name in ("optimizer", "nnx_optimizer"):
        tx = getattr(pair, name)
        if tx is not None and not all(callable(getattr(tx, f, None)) for f in ("init", "update")):
            received = f"the function {tx.__name__}" if callable(tx) else type(tx).__name__
            raise InputError(
                f"Pair.{name}: expected an optax.GradientTransformation, received {received}"
            )
    for name in ("linen_step", "nnx_step", "linen_state"):
        given = getattr(pair, name)
        if given is not None and not callable(given):
            raise InputError(f"Pair.{name}: expected a function, received {type(given).__name__}")
    if (pair.linen_step is None) != (pair.nnx_step is None):
        missing = "nnx_step" if pair.nnx_step is None else "linen_step"
        raise InputError(f"Pair.{missing}: give the steps of both sides, or none")
    for name in ("nnx_optimizer", "wrt", "linen_step", "step_inputs", "linen_state"):
        if pair.optimizer is None and getattr(pair, name) is not None:
            raise InputError(f"Pair.optimizer: {name} needs it, for example optax.adamw(1e-3)")
    for name in ("step_inputs", "linen_state"):
        if pair.linen_step is None and getattr(pair, name) is not None:
            raise InputError(f"Pair.linen_step: {name} is for the steps, and there are none")


def training_of(pair: "Pair", port: Port) -> Training | None:
    """Both models of `pair` with its optimizer; None where it has none. Allocates no weight."""
    if pair.optimizer is None:
        return None
    inputs = None
    if pair.step_inputs is not None:
        abstract_inputs(pair.step_inputs)
        inputs = functools.partial(sample_inputs, pair.step_inputs, numbers={})
    tx = pair.optimizer if pair.nnx_optimizer is None else pair.nnx_optimizer
    return Training(
        LinenTrainee(pair.linen, pair.optimizer, pair.linen_step, pair.linen_state),
        NnxTrainee(port, tx, pair.wrt, pair.nnx_step),
        pair.linen_step is not None,
        inputs,
    )
