"""What the words and numbers in the paths of two weights have in common."""

import functools
import re
from collections.abc import Sequence

from shared.program.view import View

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
# Short forms that models use for the same thing.
_FULL = {
    "q": "query",
    "k": "key",
    "v": "value",
    "o": "out",
    "wq": "query",
    "wk": "key",
    "wv": "value",
    "wo": "out",
    "emb": "embedding",
    "embed": "embedding",
    "wte": "embedding",
    "ln": "norm",
    "layernorm": "norm",
    "attn": "attention",
}
# Words that leaves of any layer have.
SAY_NOTHING = {*("params", "batch", "stats", "cache"), *("kernel", "bias", "scale", "embedding")}


@functools.cache  # each is asked for with each of the other side
def words(path: str) -> frozenset[str]:
    """The words of `path`, without its numbers: "params/mlp_0/Dense_1" -> {params, mlp, dense}."""
    found = (word.lower() for word in _WORD.findall(path) if not word.isdigit())
    return frozenset(_FULL.get(word, word) for word in found)


@functools.cache
def numbers(path: str) -> tuple[int, ...]:
    """The numbers of `path`, in order."""
    return tuple(int(word) for word in _WORD.findall(path) if word.isdigit())


def layer_of(view: View) -> tuple[int, ...]:
    """The numbers that say which layer a weight is of: those of its path, those of scans."""
    return (*numbers(view.leaf), *(position for _, position in view.index))


def template(path: str) -> str:
    """`path` with every number left out."""
    return re.sub(r"\d+", "#", path)


def shared_words(a: str, b: str) -> float:
    """How many words two paths share, 1 if all."""
    first, second = words(a), words(b)
    return len(first & second) / max(1, len(first | second))


def similarity(a: str, b: str) -> float:
    """How many words and numbers two paths share, 1 if all; a little more if they begin alike."""
    first, second = words(a) | set(map(str, numbers(a))), words(b) | set(map(str, numbers(b)))
    same_layer = numbers(a)[:1] == numbers(b)[:1]
    return len(first & second) / max(1, len(first | second)) + 0.01 * same_layer


def likenesses(linen: Sequence[str], nnx: Sequence[str]) -> dict[tuple[int, int], float]:
    """{(of `linen`, of `nnx`): how much two paths share that tells them from others of their side}.

    Above 0 where they share a word that others have not; the layer alone makes no likeness, and
    counts where both sides number the same layers: `RMSNorm_2` is of no layer 2.
    """
    own = [[words(path) for path in side] for side in (linen, nnx)]
    telling = [[each - frozenset.intersection(*side) for each in side] for side in own]
    layers = [[numbers(path)[:1] for path in side] for side in (linen, nnx)]
    are_layers = set(layers[0]) == set(layers[1])
    return {
        (i, j): len(one & other) / len(one | other)
        + 0.01 * (are_layers and layers[0][i] == layers[1][j])
        if one & other
        else 0.0
        for i, one in enumerate(telling[0])
        for j, other in enumerate(telling[1])
    }
