"""Control flow: what the numbers decide, decided in float64."""

import numpy as np

from shared.cases import Case
from shared.oracle.rounding import At, dense, gamma


def choosing_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """h = x @ kernel + bias; relu(h @ kernel + bias) where h is positive in sum, else silu(h).

    Then times one more than the number of its positive features, modulo 3. An example of which
    rounding could decide otherwise has no bound: infinity.
    """
    x, bound = np.array(x_batch, np.float64), np.zeros(np.shape(x_batch))
    for layer in range(case.num_layers):
        w, b = at("kernel", layers=layer), at("bias", layers=layer)
        h, e = dense(x, bound, w, b, unit_roundoff)
        total = h.sum(-1, keepdims=True)
        summed = (e + gamma(case.features, unit_roundoff) * (np.abs(h) + e)).sum(-1, keepdims=True)
        again, e_again = dense(h, e, w, b, unit_roundoff)
        again = np.maximum(again, 0)
        # silu has a slope of at most 1.1; its exponential is computed to a few roundings.
        once = h / (1 + np.exp(-h))
        e_once = 1.1 * e + gamma(10, unit_roundoff) * (np.abs(h) + e)
        y, e = np.where(total > 0, again, once), np.where(total > 0, e_again, e_once)
        unclear = (np.abs(total) <= summed) | _unclear(y, e)
        factor = 1 + (y > 0).sum(-1, keepdims=True) % 3
        x, bound = factor * y, factor * e * (1 + unit_roundoff) + unit_roundoff * np.abs(factor * y)
        bound = np.where(unclear, np.inf, bound)
    return x, bound


def repeating_stack(case: Case, at: At, x: np.ndarray) -> np.ndarray:
    """relu(x @ kernel + bias), and again as many times as it has positive features."""
    for layer in range(case.num_layers):
        w, b = at("kernel", layers=layer), at("bias", layers=layer)
        x = np.maximum(x @ w + b, 0)
        left = (x > 0).sum(-1, keepdims=True)
        while np.any(left > 0):
            x = np.where(left > 0, np.maximum(x @ w + b, 0), x)
            left = left - 1
    return x


def _unclear(x: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Which examples have a feature whose sign is within its bound; zeros of relu are zeros."""
    return np.any((np.abs(x) <= bound) & (x != 0), axis=-1, keepdims=True)
