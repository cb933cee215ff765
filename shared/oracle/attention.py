"""Causal attention, of a whole text and of one token against a cache."""

import numpy as np

from shared.cases import Case
from shared.oracle.rounding import At


def causal_stack(case: Case, at: At, x: np.ndarray) -> np.ndarray:
    """x + attention(x), where a token sees itself and those before: (B, T, F)."""
    length = case.size_of["length"]
    visible = np.tril(np.ones((length, length), bool))
    for layer in range(case.num_layers):
        key, value = heads(at, layer, "key", x), heads(at, layer, "value", x)
        x = x + attended(at, layer, x, key, value, visible)
    return x


def decode_stack(case: Case, at: At, x: np.ndarray) -> np.ndarray:
    """The same of one token (B, 1, F), whose key and value go where the index of the cache is."""
    for layer in range(case.num_layers):
        x = x + attended(at, layer, x, *cached(case, at, layer, x))
    return x


def cached(
    case: Case, at: At, layer: int, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys and values with those of the token x (B, 1, F), and which of them it may see."""
    index = int(at("cache_index", layers=layer))
    key, value = (at(f"cached_{name}", layers=layer).copy() for name in ("key", "value"))
    key[:, index] = heads(at, layer, "key", x)[:, 0]
    value[:, index] = heads(at, layer, "value", x)[:, 0]
    return key, value, np.arange(case.size_of["length"])[None] <= index


def heads(at: At, layer: int, name: str, x: np.ndarray) -> np.ndarray:
    """Queries, keys or values: (B, T, F) -> (B, T, heads, head_dim)."""
    kernel, bias = at(f"{name}/kernel", layers=layer), at(f"{name}/bias", layers=layer)
    return np.einsum("btf,fhd->bthd", x, kernel) + bias


def attended(
    at: At, layer: int, x: np.ndarray, key: np.ndarray, value: np.ndarray, visible: np.ndarray
) -> np.ndarray:
    """What the tokens x (B, T, F) read: (B, T, F). `visible` (T, length): what each may see."""
    query = heads(at, layer, "query", x)
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1], dtype=x.dtype)
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhqk,bkhd->bqhd", weights, value)
    kernel, bias = at("out/kernel", layers=layer), at("out/bias", layers=layer)
    return np.einsum("bqhd,hdf->bqf", mixed, kernel) + bias
