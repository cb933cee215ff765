"""Stacks of `relu(x @ kernel + bias)`, and what the patterns put between."""

import itertools
from typing import Any

import jax
import numpy as np

from shared import linen_keys
from shared.cases import Case
from shared.oracle.rounding import At, dense, gamma


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
    return x @ table.T, carried @ np.abs(table.T) + gamma(case.features, unit_roundoff) * size


def _relu_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray, scopes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    factor = gamma(case.features + 1, unit_roundoff)
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
            bound[member] = carried + factor * size
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
    factor = (case.features + 3) * unit_roundoff
    x, bound = np.array(x_batch, np.float64), np.zeros(np.shape(x_batch))
    for layer in reversed(layers) if dict(case.options).get("reverse") else layers:
        w, b = at("kernel", layers=layer), at("bias", layers=layer)
        shift = by_layer[layer].astype(np.float64)
        size = (np.abs(x) + bound) @ np.abs(w) + np.abs(b) + np.abs(shift)
        bound = (bound @ np.abs(w) + factor * size) * np.abs(gain)
        x = np.maximum(x @ w + b + shift, 0) * gain
    return x, bound


def running_norm_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """relu(norm(x @ kernel + bias)) with the running statistics.

    The bound is that of `relu_stack`, and of five operations more.
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


def batch_norm_stack(case: Case, at: At, x: np.ndarray) -> np.ndarray:
    """relu(norm(x @ kernel + bias)) with the statistics of the batch: (B, F)."""
    for layer in range(case.num_layers):
        h = x @ at("kernel", layers=layer) + at("Dense_0/bias", layers=layer)
        scale, shift = at("scale", layers=layer), at("BatchNorm_0/bias", layers=layer)
        factor = scale / np.sqrt(h.var(0) + np.asarray(1e-5, h.dtype))
        x = np.maximum((h - h.mean(0)) * factor + shift, 0)
    return x


def scaled_relu_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """relu_stack, and a scale of each feature at the end: one more rounding."""
    activation, bound = relu_stack(case, at, unit_roundoff, x_batch)
    scale = at("scale")
    scaled, carried = activation * scale, bound * np.abs(scale)
    return scaled, carried + unit_roundoff * (np.abs(scaled) + carried)


def perturbed_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray, hidden: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """relu(x @ kernel + bias + hidden), with a number of each example, layer and feature."""
    x, bound = np.array(x_batch, np.float64), np.zeros(np.shape(x_batch))
    for layer in range(case.num_layers):
        w, b = at("kernel", layers=layer), at("bias", layers=layer)
        added = np.asarray(hidden[:, layer], np.float64)
        h, bound = dense(x, bound, w, b, unit_roundoff)
        bound = bound + unit_roundoff * (np.abs(h) + bound + np.abs(added))
        x = np.maximum(h + added, 0)
    return x, bound


def dropout_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray, key: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """dropout(relu(x @ kernel + bias)): a mask for each example and layer, from keys of their own.

    The keys are those of `shared.linen_keys`; JAX draws the random bits.
    """
    keys = jax.random.split(key, len(x_batch))
    return _dropout_stack(case, at, unit_roundoff, x_batch, list(keys))


def dropout_stack_of_one_mask(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray, key: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """The same with one mask a layer for all examples: the vmap splits nothing."""
    return _dropout_stack(case, at, unit_roundoff, x_batch, [key] * len(x_batch))


def _dropout_stack(
    case: Case, at: At, unit_roundoff: float, x_batch: np.ndarray, keys: list[jax.Array]
) -> tuple[np.ndarray, np.ndarray]:
    keep = 1 - dict(case.options)["rate"]
    (word,) = linen_keys.draw_words(case.inputs[1].draws, case.num_scans)
    x, bound = np.array(x_batch, np.float64), np.zeros(np.shape(x_batch))
    for layer in range(case.num_layers):
        w, b = at("kernel", layers=layer), at("bias", layers=layer)
        h, bound = dense(x, bound, w, b, unit_roundoff)
        own = [jax.random.split(key, case.num_layers)[layer] for key in keys]
        masks = [
            jax.random.bernoulli(jax.random.fold_in(k, word), keep, (case.features,)) for k in own
        ]
        kept = np.asarray(masks).reshape(h.shape) / keep
        x, bound = np.maximum(h, 0) * kept, bound * kept
        bound = bound + unit_roundoff * (np.abs(x) + bound)
    return x, bound
