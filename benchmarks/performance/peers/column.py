"""One way to run the exercise, and the weights that all ways are given."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Weights(NamedTuple):
    """Of N layers `relu(x @ kernel + bias)`, float32.

    Attributes:
      bias: (N, F).
      kernel: (N, F, F), of a layer (in, out).
    """

    bias: np.ndarray
    kernel: np.ndarray


@dataclasses.dataclass(frozen=True)
class Column:
    """What is timed, on weights and inputs of its own, and how its results are read.

    Attributes:
      forward: () -> the outputs, as the framework returns them.
      gradient: () -> the sum of the outputs and its gradient by all weights, the same.
      outputs: of what `forward` returned: (B, F).
      gradients: of what `gradient` returned: the sum and the gradient.
    """

    forward: Callable[[], Any]
    gradient: Callable[[], Any]
    outputs: Callable[[Any], np.ndarray]
    gradients: Callable[[Any], tuple[float, Weights]]


# Columns by name, and sentences that a reader has to know.
Found = tuple[dict[str, Column], tuple[str, ...]]
