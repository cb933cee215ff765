"""Both models of a pair as they are trained: its optimizer, and its own steps if it has some."""

import dataclasses
import functools
from collections.abc import Callable

from shared.models.inputs import abstract_inputs, sample_inputs
from shared.models.linen_trainee import LinenTrainee
from shared.models.nnx import Port
from shared.models.nnx_trainee import NnxTrainee
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


def training_of(pair: Pair, port: Port) -> Training | None:
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
