"""Text to train on: characters as tokens, a split, batches that follow from seed and step."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.errors import FileAccessError, InputError

MAX_BYTES = 2**30
# Of ten parts of a text the last is for validation.
PARTS = 10


class Text(NamedTuple):
    """A text in tokens.

    Attributes:
      characters: all that occur, sorted; a token is the place of its character in them.
      train, validation: (length,) int32; the second is what follows on the first.
    """

    characters: str
    train: np.ndarray
    validation: np.ndarray


def topics() -> str:
    """The documentation of Python's keywords and topics, which CPython ships: English."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def read_text(path: str) -> str:
    """The text of a file.

    Raises:
      FileAccessError: it cannot be read.
      InputError: it is larger than `MAX_BYTES`, or is not UTF-8.
    """
    try:
        size = os.stat(path).st_size
        if size > MAX_BYTES:
            raise InputError(
                f"--text={path}: {size:,} bytes, at most {MAX_BYTES:,} are read; give a part of it"
            )
        content = Path(path).read_bytes()
    except OSError as error:
        raise FileAccessError(f"--text={path}: {error.strerror}; name a file to read") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"--text={path}: byte {error.start} (0x{content[error.start]:02x}) is not UTF-8; "
            f"expected a text in UTF-8, save it as one"
        ) from error


def tokens_of(text: str, length: int) -> Text:
    """A text in tokens, in two parts.

    Args:
      text: to be split.
      length: of a window, in tokens; each part has to hold one and the token that follows.

    Raises:
      InputError: a part is too short.
    """
    characters, tokens = np.unique(np.array(list(text)), return_inverse=True)
    border = len(tokens) - len(tokens) // PARTS
    found = Text("".join(characters), *np.split(tokens.astype(np.int32), [border]))
    if len(found.validation) <= length:
        raise InputError(
            f"the text has {len(text):,} characters, {len(found.validation):,} of them for "
            f"validation; a window takes {length + 1:,}: expected at least "
            f"{PARTS * (length + 1):,} characters"
        )
    return found


def text_of(text: Text, tokens: np.ndarray) -> str:
    """The characters of `tokens`."""
    return "".join(text.characters[token] for token in tokens)


def batch(tokens: np.ndarray, seed: int, step: int, batch_size: int, length: int) -> np.ndarray:
    """The windows of one step, (batch_size, length + 1): inputs, and each one's next token.

    A function of its arguments alone: a run that is resumed sees what it would have seen.

    Args:
      tokens: (n,), of which each window is a part.
      seed: of the run; step: of the batch, counted from 0.
      batch_size: of the windows, drawn with repetition; length: of each.
    """
    rng = np.random.default_rng([seed, step])
    starts = rng.integers(len(tokens) - length, size=batch_size)
    return tokens[starts[:, None] + np.arange(length + 1)]


def windows(tokens: np.ndarray, batch_size: int, length: int) -> np.ndarray:
    """All of a text, (steps, batch_size, length + 1), each token once as the next one.

    What is left over at the end of the text, less than a batch, is not in it.
    """
    steps = (len(tokens) - 1) // (batch_size * length)
    starts = np.arange(steps * batch_size).reshape(steps, batch_size, 1) * length
    return tokens[starts + np.arange(length + 1)]
