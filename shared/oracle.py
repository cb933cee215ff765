"""A third opinion on every case: loops over examples and layers in NumPy, in float64.

Both implementations run on the same compiler, so they can agree on a wrong number.
"""

import itertools
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
        """The leaf whose path ends with `name`, at a place of those of its axes that are named.

        A kernel is returned as (in, out), however it is kept.
        """
        paths = sorted(
            (p for p in leaves if f"/{p}".endswith(f"/{name}")), key=lambda p: (len(p), p)
        )
        axes = case.leaf(paths[0]).axes
        # Of a list of layers each has a leaf of its own, `layers_2` before `layers_10`.
        path = paths[0 if "layers" in axes or len(paths) == 1 else place["layers"]]
        found = leaves[path][tuple(place.get(axis, slice(None)) for axis in axes)]
        left = [axis for axis in axes if axis not in place]
        return found.T if left == ["out", "in"] else found

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
    return _relu_stack(case, at, unit_roundoff, x_batch, scopes=("",))


def relu_pairs(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same with two in each layer."""
    scopes = ("blocks_up/Dense_0/", "blocks_down/Dense_0/")
    return _relu_stack(case, at, unit_roundoff, x_batch, scopes)


def tied_embedding(
    case: Case, at: At, unit_roundoff: float, tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the table that the tokens name, a stack, and the dot with every row."""
    table = at("embedding")
    x, carried = relu_stack(case, at, unit_roundoff, table[tokens])
    size = (np.abs(x) + carried) @ np.abs(table.T)
    return x @ table.T, carried @ np.abs(table.T) + _gamma(case.features, unit_roundoff) * size


def _gamma(num_terms: int, unit_roundoff: float) -> float:
    return num_terms * unit_roundoff / (1 - num_terms * unit_roundoff)


def _relu_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray, scopes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    gamma = _gamma(case.features + 1, unit_roundoff)
    activation = np.array(x_batch, np.float64)
    bound = np.zeros_like(activation)
    for member, _ in enumerate(activation):
        indices = np.ndindex(case.num_layers, case.size_of.get("inner", 1))
        for (layer, inner), scope in itertools.product(indices, scopes):
            place = {"layers": layer, "inner": inner, "members": member}
            w, b = at(f"{scope}kernel", **place), at(f"{scope}bias", **place)
            x = activation[member]
            carried = bound[member] @ np.abs(w)
            size = (np.abs(x) + bound[member]) @ np.abs(w) + np.abs(b)
            bound[member] = carried + gamma * size
            activation[member] = np.maximum(x @ w + b, 0)
    return activation, bound


def conditioned_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: Any, shifts: Any, gain: Any
) -> tuple[np.ndarray, np.ndarray]:
    """relu(x @ kernel + bias + shift) * gain, with a shift for each layer.

    The bound is that of `relu_stack`, with a term more and a product.
    """
    layers = range(case.num_layers)
    by_layer = np.moveaxis(shifts, case.inputs[1].axes.index("layers"), 0)
    gamma = (case.features + 3) * unit_roundoff
    x, bound = np.array(x_batch, np.float64), np.zeros(np.shape(x_batch))
    for layer in reversed(layers) if dict(case.options).get("reverse") else layers:
        w, b = at("kernel", layers=layer), at("bias", layers=layer)
        shift = by_layer[layer].astype(np.float64)
        size = (np.abs(x) + bound) @ np.abs(w) + np.abs(b) + np.abs(shift)
        bound = (bound @ np.abs(w) + gamma * size) * np.abs(gain)
        x = np.maximum(x @ w + b + shift, 0) * gain
    return x, bound


def running_norm_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """relu(norm(x @ kernel + bias)) with the running statistics.

    The bound is that of `relu_stack`, and of five operations more. (With the statistics of a batch
    there is no useful one: it grows with one over the smallest variance, layer after layer.)
    """
    dense = (case.features + 1) * unit_roundoff
    x, bound = np.array(x_batch, np.float64), np.zeros(np.shape(x_batch))
    for layer in range(case.num_layers):
        w, b = at("kernel", layers=layer), at("Dense_0/bias", layers=layer)
        scale, shift = at("scale", layers=layer), at("BatchNorm_0/bias", layers=layer)
        mean, variance = at("mean", layers=layer), at("var", layers=layer)
        factor = scale / np.sqrt(variance + 1e-5)
        size = (np.abs(x) + bound) @ np.abs(w) + np.abs(b)
        bound = np.abs(factor) * (bound @ np.abs(w) + dense * size)
        bound += 5 * unit_roundoff * (np.abs(factor) * (size + np.abs(mean)) + np.abs(shift))
        x = np.maximum((x @ w + b - mean) * factor + shift, 0)
    return x, bound


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
    "conditioned_stack": conditioned_stack,
    "running_norm_stack": running_norm_stack,
    "relu_pairs": relu_pairs,
    "tied_embedding": tied_embedding,
    "scaled_relu_stack": scaled_relu_stack,
}
