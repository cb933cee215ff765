"""Keys that all draw the same, so that two programs that derive theirs in other ways draw alike.

The bits of a draw follow from the place along its last axis alone: how a key was split or folded,
and whether examples are drawn for one by one or together, makes no difference.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import random

# 2 ** 32 over the golden ratio: its multiples spread evenly.
_STEP = 2654435769


def alike(tree: Any, is_key: Any = None) -> Any:
    """`tree` with its keys exchanged for keys that all draw the same.

    Args:
      tree: of arrays.
      is_key: whether an array of uint32 is a raw key; without, only typed keys are exchanged.
    """

    def exchanged(x: Any) -> Any:
        if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
            return jnp.broadcast_to(jax.random.key(0, impl=_ALIKE), x.shape)
        if is_key is not None and is_key(x):
            return jnp.broadcast_to(jax.random.key(0, impl=_ALIKE), x.shape[:-1])
        return x

    return jax.tree.map(exchanged, tree)


class Draw(NamedTuple):
    """What a program draws.

    Attributes:
      length: of the last axis; width: bits of a number.
      is_alike: whether its key is one of those that all draw the same.
    """

    length: int
    width: int
    is_alike: bool


def draws(jaxpr: Any) -> frozenset[Draw]:
    """Each kind of draw of a traced program."""
    found: set[Draw] = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "random_bits":
            shape = equation.params["shape"]
            is_alike = equation.invars[0].aval.dtype == _DTYPE
            found.add(Draw(shape[-1] if shape else 1, equation.params["bit_width"], is_alike))
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(inner):
                found |= draws(getattr(inner, "jaxpr", inner))
    return frozenset(found)


def _is_program(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def _bits(key: jax.Array, width: int, shape: Sequence[int]) -> jax.Array:
    place = jnp.arange(1, (shape[-1] if shape else 1) + 1, dtype=jnp.uint32)
    bits = place * jnp.uint32(_STEP)
    if width <= 32:
        bits = (bits >> (32 - width)).astype(jnp.dtype(f"uint{width}"))
    else:
        bits = (bits.astype(jnp.uint64) << 32) | bits.astype(jnp.uint64)
    return jnp.broadcast_to(bits, shape) if shape else bits[0]


_ALIKE = random.define_prng_impl(
    key_shape=(1,),
    seed=lambda seed: jnp.zeros((1,), jnp.uint32),
    split=lambda key, shape: jnp.zeros((*shape, 1), jnp.uint32),
    fold_in=lambda key, number: key,
    random_bits=_bits,
    name="alike",
    tag="alike",
)
_DTYPE = jax.eval_shape(lambda: jax.random.key(0, impl=_ALIKE)).dtype
