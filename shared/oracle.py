"""A third opinion on every case: loops over examples and layers in NumPy, in float64.

Both implementations run on the same compiler, so they can agree on a wrong number.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shared.cases import Case
from shared.interface import Variables
from shared.trees import flatten


def forward(
    case: Case, variables: Variables, *inputs: Any, unit_roundoff: float = 2.0**-24
) -> tuple[np.ndarray, np.ndarray]:
    """The activation in float64, and how far a correct float32 result may be from it.

    Args:
      case: one with an oracle; it gives the meaning of each axis of the variables.
      variables: Linen's.
      *inputs: the batch (B, F), and what else the case takes.
      unit_roundoff: of the arithmetic under test; float32 unless told.

    Returns:
      activation (B, F) and bound (B, F), both float64.
    """
    leaves = {p: np.asarray(leaf, np.float64) for p, leaf in flatten(variables).items()}

    def at(name: str, **place: int) -> np.ndarray:
        """The leaf whose path ends with `name`, at a place of those of its axes that are named."""
        path = next(path for path in leaves if f"/{path}".endswith(f"/{name}"))
        axes = case.leaf(path).axes
        return leaves[path][tuple(place.get(axis, slice(None)) for axis in axes)]

    return ORACLES[str(case.oracle)](case, at, unit_roundoff, *inputs)


At = Callable[..., np.ndarray]


def relu_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """relu(x @ kernel + bias), layer after layer.

    The bound is the standard one for a dot of F terms plus a bias in any order of summation,
    gamma(F + 1) * (|x| |W| + |b|), carried through the layers; relu makes no error larger.
    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
    """
    num_terms = case.features + 1
    gamma = num_terms * unit_roundoff / (1 - num_terms * unit_roundoff)

    activation = np.array(x_batch, np.float64)
    bound = np.zeros_like(activation)
    for member, _ in enumerate(activation):
        for layer in range(case.num_layers):
            place = {"layers": layer, "members": member}
            x, w, b = activation[member], at("kernel", **place), at("bias", **place)
            carried = bound[member] @ np.abs(w)
            size = (np.abs(x) + bound[member]) @ np.abs(w) + np.abs(b)
            bound[member] = carried + gamma * size
            activation[member] = np.maximum(x @ w + b, 0)
    return activation, bound


def scaled_relu_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """relu_stack, and a scale of each feature at the end: one more rounding."""
    activation, bound = relu_stack(case, at, unit_roundoff, x_batch)
    scale = at("scale")
    scaled, carried = activation * scale, bound * np.abs(scale)
    return scaled, carried + unit_roundoff * (np.abs(scaled) + carried)


ORACLES: Mapping[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "relu_stack": relu_stack,
    "scaled_relu_stack": scaled_relu_stack,
}
