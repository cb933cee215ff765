"""How far a result may be from the exact one, whatever the order of its operations.

Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
"""

from collections.abc import Callable

import numpy as np

# The leaf of a name, at a place: see `shared.oracle.leaf_at`.
At = Callable[..., np.ndarray]


def gamma(num_terms: int, unit_roundoff: float) -> float:
    """The relative error of `num_terms` roundings."""
    return num_terms * unit_roundoff / (1 - num_terms * unit_roundoff)


def dense(
    x: np.ndarray, bound: np.ndarray, w: np.ndarray, b: np.ndarray, unit_roundoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """x @ w + b, of an x (..., in) that is known up to `bound`, and the bound of that."""
    size = (np.abs(x) + bound) @ np.abs(w) + np.abs(b)
    return x @ w + b, bound @ np.abs(w) + gamma(len(w) + 1, unit_roundoff) * size
