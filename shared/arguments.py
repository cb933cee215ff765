"""The arguments of the function of the exercise, checked."""

from typing import Any

import numpy as np

from shared.errors import InputError


def check_arguments(x_batch: Any, num_layers: int, features: int) -> None:
    """Stops at arguments that fit no stack; JAX's own words for them name neither argument.

    Raises:
      InputError: `x_batch` is not (B, features), or a size is not a whole number of things.
    """
    if num_layers < 0 or features < 1:
        raise InputError(f"num_layers={num_layers}, features={features}: expected at least 0 and 1")
    shape = np.shape(x_batch)
    if len(shape) != 2:
        raise InputError(f"x_batch: expected (batch, features), received {shape}")
    if shape[1] != features:
        raise InputError(
            f"x_batch: x.shape[-1] is {shape[1]}, but features={features}; they must be equal, for "
            f"what a scan carries from layer to layer keeps its width"
        )
