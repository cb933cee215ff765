"""A third opinion on every case: loops over examples and layers in NumPy, in float64.

Both implementations run on the same compiler, so they can agree on a wrong number.
"""

import numpy as np

from shared.cases import Case
from shared.interface import Variables
from shared.trees import flatten


def forward(
    case: Case, variables: Variables, x_batch: np.ndarray, unit_roundoff: float = 2.0**-24
) -> tuple[np.ndarray, np.ndarray]:
    """The activation in float64, and how far a correct float32 result may be from it.

    The bound is the standard one for a dot of F terms plus a bias in any order of summation,
    gamma(F + 1) * (|x| |W| + |b|), carried through the layers; relu makes no error larger.
    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.

    Args:
      case: gives the meaning of the leading axes of each param.
      variables: Linen's.
      x_batch: (B, F).
      unit_roundoff: of the arithmetic under test; float32 unless told.

    Returns:
      activation (B, F) and bound (B, F), both float64.
    """
    by_name = {
        path.rsplit("/", 1)[-1]: np.asarray(leaf, np.float64)
        for path, leaf in flatten(variables).items()
    }
    kernel, bias = by_name["kernel"], by_name["bias"]
    num_terms = case.features + 1
    gamma = num_terms * unit_roundoff / (1 - num_terms * unit_roundoff)

    activation = np.array(x_batch, np.float64)
    bound = np.zeros_like(activation)
    for member, _ in enumerate(activation):
        for layer in range(case.num_layers):
            place = {"layers": layer, "members": member}
            index = tuple(place[axis] for axis in case.lifted_axes)
            x, w, b = activation[member], kernel[index], bias[index]
            carried = bound[member] @ np.abs(w)
            size = (np.abs(x) + bound[member]) @ np.abs(w) + np.abs(b)
            bound[member] = carried + gamma * size
            activation[member] = np.maximum(x @ w + b, 0)
    return activation, bound
