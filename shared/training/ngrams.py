"""What counting does: the loss of a model that knows the last characters, and nothing else."""

import numpy as np

from shared.training.text import Text

# Of so many characters the last is predicted.
NGRAMS = {"bigram": 2, "trigram": 3}


def ngram_losses(text: Text) -> dict[str, float]:
    """{n-gram: its loss of the validation text}."""
    size = len(text.characters)
    return {name: ngram_loss(text.train, text.validation, size, n) for name, n in NGRAMS.items()}


def ngram_loss(train: np.ndarray, validation: np.ndarray, num_tokens: int, n: int) -> float:
    """Mean negative log likelihood of `validation`, in nats a token, by counts in `train`.

    The probability of a token after the n - 1 before it is (count + 1) / (count of those before +
    num_tokens): add-one smoothing (Jurafsky and Martin, Speech and Language Processing, 3.6).

    Args:
      train, validation: tokens, (length,).
      num_tokens: how many different ones there are.
      n: 2 for a bigram.

    Raises:
      ValueError: `num_tokens ** n` has no room in 64 bits.
    """
    if num_tokens**n >= 2**63:
        raise ValueError(f"the {n}-grams of {num_tokens} tokens have no room in 64 bits")
    counts, seen = _count(train, num_tokens, n), _count(train[:-1], num_tokens, n - 1)
    codes = _codes(validation, num_tokens, n)
    likelihood = (_of(counts, codes) + 1) / (_of(seen, codes // num_tokens) + num_tokens)
    return float(-np.log(likelihood).mean())


def _codes(tokens: np.ndarray, num_tokens: int, n: int) -> np.ndarray:
    """One number for each n tokens in a row."""
    length = max(0, len(tokens) - n + 1)
    codes = np.zeros(length, np.int64)
    for i in range(n):
        codes = codes * num_tokens + tokens[i : i + length]
    return codes


def _count(tokens: np.ndarray, num_tokens: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(_codes(tokens, num_tokens, n), return_counts=True)


def _of(counts: tuple[np.ndarray, np.ndarray], codes: np.ndarray) -> np.ndarray:
    """How often each code was counted."""
    known, times = counts
    if not len(known):
        return np.zeros(len(codes), np.int64)
    places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where(known[places] == codes, times[places], 0)
