"""A step of training in NumPy: the loss, its gradient and what AdamW makes of that."""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from shared.cases import Case
from shared.oracle import leaf_at
from shared.oracle.transformer import logits_of_texts, masks
from shared.trees import unflatten

Arrays = dict[str, np.ndarray]


def loss_and_gradient(
    case: Case, params: Mapping[str, np.ndarray], windows: np.ndarray, key: jax.Array
) -> tuple[float, Arrays]:
    """The mean negative log likelihood of the next tokens, and its gradient by each param.

    The gradient is by complex steps: of a loss that is analytic, the imaginary part at a param + ih
    is h times the derivative, without a difference of two numbers that are nearly the same. So it
    shares nothing with the derivatives of JAX. Source: Squire and Trapp, Using Complex Variables to
    Estimate Derivatives of Real Functions, SIAM Review 40 (1998).

    Args:
      case: of the transformer in training. params: {path: array}, Linen's.
      windows: (B, T + 1), tokens.
      key: of the masks of this step.

    Returns:
      in nats a token; {path: of the shape of the param}, float64.
    """
    leaves = {path: np.array(leaf, np.complex128) for path, leaf in params.items()}
    at = leaf_at(case, unflatten(leaves), np.complex128)  # of the same arrays, not of copies
    tokens, targets = windows[:, :-1], windows[:, 1:]
    kept = masks(case, tokens.shape, key)

    def loss() -> complex:
        logits = logits_of_texts(case, at, tokens, kept)
        logits = logits - logits.real.max(-1, keepdims=True)
        of_targets = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return (np.log(np.exp(logits).sum(-1)) - of_targets).mean()

    step = 1e-30
    gradient = {path: np.zeros(leaf.shape) for path, leaf in leaves.items()}
    for path, leaf in leaves.items():
        for place in np.ndindex(leaf.shape):
            leaf[place] += 1j * step
            gradient[path][place] = loss().imag / step
            leaf[place] = leaf[place].real
    return float(loss().real), gradient


def adamw(
    params: Arrays,
    gradient: Arrays,
    moments: tuple[Arrays, Arrays],
    count: int,
    learning_rate: float,
    decay: Callable[[str], float],
) -> tuple[Arrays, tuple[Arrays, Arrays]]:
    """The params after a step, and the moments.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2; gradients are
    clipped to a global norm of 1 before, as in Pascanu et al., On the difficulty of training
    recurrent neural networks, algorithm 1.

    Args:
      params, gradient: {path: an array}. moments: of the gradient and of its square.
      count: of the steps before.
      decay: of the param at a path.
    """
    first, second, epsilon = 0.9, 0.98, 1e-8
    norm = np.sqrt(sum(np.square(g).sum() for g in gradient.values()))
    clipped = {path: g / max(1.0, norm) for path, g in gradient.items()}
    mean, square = (
        {path: beta * of[path] + (1 - beta) * g**power for path, g in clipped.items()}
        for beta, of, power in ((first, moments[0], 1), (second, moments[1], 2))
    )
    new = {}
    for path, param in params.items():
        unbiased = mean[path] / (1 - first ** (count + 1))
        scale = np.sqrt(square[path] / (1 - second ** (count + 1))) + epsilon
        new[path] = param - learning_rate * (unbiased / scale + decay(path) * param)
    return new, (mean, square)
