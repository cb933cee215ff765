"""All rows, and which layers Flax has beside them."""

import inspect
from types import ModuleType

from flax import linen as nn
from flax import nnx

from benchmarks.stock import attention, linear, norms, others, recurrent

ROWS = (*linear.ROWS, *norms.ROWS, *attention.ROWS, *recurrent.ROWS, *others.ROWS)

# {what a layer is called in Linen: what it is called in NNX}
OTHER_NAMES = {
    "Dense": "Linear",
    "DenseGeneral": "LinearGeneral",
    "MultiHeadDotProductAttention": "MultiHeadAttention",
    "SelfAttention": "MultiHeadAttention",
}
# {what has no row, in Linen: why}
LEFT_OUT = {
    "Module": "what layers are made of",
    "RNNCellBase": "what cells are made of: it computes nothing",
    "MultiHeadAttention": "another name of MultiHeadDotProductAttention",
    "SelfAttention": "MultiHeadDotProductAttention of one input, which that takes as well",
}


def classes(library: ModuleType, base: type) -> set[str]:
    """The names of the layers that a library exports."""
    return {name for name, value in vars(library).items() if _is_layer(value, base)}


def _is_layer(value: object, base: type) -> bool:
    return inspect.isclass(value) and issubclass(value, base)


def in_both() -> set[str]:
    """Linen's names of the layers that NNX has too, under that name or another."""
    linen, other = classes(nn, nn.Module), classes(nnx, nnx.Module)
    return {name for name in linen if {name, OTHER_NAMES.get(name)} & other}


def in_one() -> tuple[list[str], list[str]]:
    """The names of the layers that only Linen has, and of those that only NNX has."""
    both = in_both()
    linen, other = classes(nn, nn.Module), classes(nnx, nnx.Module)
    return sorted(linen - both), sorted(other - both - {OTHER_NAMES.get(name) for name in both})


def other_defaults() -> list[str]:
    """Arguments of one name that are one thing in Linen by default and another in NNX, in words."""
    found = []
    for one, other in dict.fromkeys((row.linen, row.nnx) for row in ROWS):
        if not inspect.isclass(getattr(nn, one, None)):
            continue
        defaults = [
            {word.name: word.default for word in inspect.signature(made).parameters.values()}
            for made in (getattr(nn, one), getattr(nnx, other).__init__)
        ]
        for word in defaults[0].keys() & defaults[1].keys():
            a, b = (each[word] for each in defaults)
            if a == b or not (_is_plain(a) and _is_plain(b)):
                continue
            found.append(f"{other}.{word} is {_written(b)}, Linen's is {_written(a)}")
    return sorted(found)


def _is_plain(value: object) -> bool:
    """Whether it says itself what it is, as a function does not."""
    is_given = value is not inspect.Parameter.empty
    return is_given and (value is None or isinstance(value, bool | int | float | str | type))


def _written(value: object) -> str:
    return value.__name__ if inspect.isclass(value) else repr(value)
