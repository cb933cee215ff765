"""The transformer: of whole texts, in training and at evaluation, and of one token."""

import jax
import numpy as np

from shared import linen_keys
from shared.cases import Case
from shared.oracle.attention import attended, cached, heads
from shared.oracle.rounding import At


def texts(case: Case, at: At, tokens: np.ndarray) -> np.ndarray:
    """Logits (B, T, vocab) of tokens (B, T), where nothing is dropped."""
    kept = np.ones((case.num_layers, 2, *tokens.shape, 1), at("embedding").dtype)
    return logits_of_texts(case, at, tokens, kept)


def dropped_texts(case: Case, at: At, tokens: np.ndarray, key: jax.Array) -> np.ndarray:
    """The same with two masks for each text and layer, from keys of their own.

    The keys are those of `shared.linen_keys`; JAX draws the random bits.
    """
    kept = masks(case, tokens.shape, key).astype(at("embedding").dtype)
    return logits_of_texts(case, at, tokens, kept)


def masks(case: Case, shape: tuple[int, ...], key: jax.Array) -> np.ndarray:
    """What each number is multiplied with, 0 or 1 / keep: (N, 2, B, T, F) for tokens (B, T)."""
    keep = 1 - dict(case.options)["rate"]
    num_texts, length = shape
    words = linen_keys.draw_words(case.inputs[1].draws, case.num_scans)
    kept = np.zeros((case.num_layers, len(words), num_texts, length, case.features))
    for text, of_text in enumerate(jax.random.split(key, num_texts)):
        for layer, own in enumerate(jax.random.split(of_text, case.num_layers)):
            for place, word in enumerate(words):
                own_key = jax.random.fold_in(own, word)
                mask = jax.random.bernoulli(own_key, keep, kept.shape[-2:])
                kept[layer, place, text] = np.asarray(mask) / keep
    return kept


def logits_of_texts(case: Case, at: At, tokens: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """`kept` (N, 2, B, T, F): what each number is multiplied with behind attention and mlp."""
    length = tokens.shape[-1]
    visible = np.tril(np.ones((length, length), bool))
    x = embedded(at, tokens, np.arange(length))
    for layer, (of_attention, of_mlp) in enumerate(kept):
        h = norm(at, "attention_norm", x, layers=layer)
        key, value = heads(at, layer, "key", h), heads(at, layer, "value", h)
        x = x + attended(at, layer, h, key, value, visible) * of_attention
        x = x + mlp(at, layer, norm(at, "hidden_norm", x, layers=layer)) * of_mlp
    return logits(case, at, x)


def next_token(case: Case, at: At, tokens: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Logits (B, 1, vocab) of tokens (B, 1) at `start`, which the cache has at its index."""
    x = embedded(at, tokens, np.reshape(start, 1))
    for layer in range(case.num_layers):
        h = norm(at, "attention_norm", x, layers=layer)
        x = x + attended(at, layer, h, *cached(case, at, layer, h))
        x = x + mlp(at, layer, norm(at, "hidden_norm", x, layers=layer))
    return logits(case, at, x)


def embedded(at: At, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The rows of the table that the tokens name, and where they stand: (B, T, F)."""
    rows = at("embedding")[tokens]
    feature = np.arange(rows.shape[-1])
    frequencies = 10000.0 ** -(feature // 2 * 2 / len(feature))
    angles = (positions[:, None] * frequencies).astype(rows.dtype)
    return rows + np.where(feature % 2 == 0, np.sin(angles), np.cos(angles))


def norm(at: At, name: str, x: np.ndarray, **place: int) -> np.ndarray:
    """Each vector of features of mean 0 and variance 1, times a scale, plus a bias."""
    centred = x - x.mean(-1, keepdims=True)
    # Not `x.var()`: of complex numbers that is another thing, and `oracle.training` takes them.
    variance = np.square(centred).mean(-1, keepdims=True)
    deviation = np.sqrt(variance + np.asarray(1e-6, x.dtype))
    return centred / deviation * at(f"{name}/scale", **place) + at(f"{name}/bias", **place)


def mlp(at: At, layer: int, x: np.ndarray) -> np.ndarray:
    """A hidden layer and its gelu, the one that is made of a tanh: (B, T, F) -> (B, T, F)."""
    h = x @ at("up/kernel", layers=layer) + at("up/bias", layers=layer)
    slope = np.asarray(np.sqrt(2 / np.pi), x.dtype)
    h = h * (1 + np.tanh(slope * (h + np.asarray(0.044715, x.dtype) * h**3))) / 2
    return h @ at("down/kernel", layers=layer) + at("down/bias", layers=layer)


def logits(case: Case, at: At, x: np.ndarray) -> np.ndarray:
    """The score of each token of the vocabulary, by the head or by the table: (B, T, vocab)."""
    is_tied = dict(case.options)["is_tied"]
    return norm(at, "norm", x) @ (at("embedding").T if is_tied else at("head/kernel"))
