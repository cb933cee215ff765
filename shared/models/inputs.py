"""What a pair is called on: shapes and dtypes, and numbers to compute with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.errors import InputError, during
from shared.program.whole_numbers import WholeNumbers


def abstract_inputs(inputs: Callable[[jax.Array], tuple] | tuple) -> tuple:
    """The shapes and dtypes of the inputs of a call.

    Raises:
      InputError: they are no tuple, or hold a choice such as `train=True`.
    """
    if callable(inputs):
        with during("Pair.inputs, called with a key"):
            made = jax.eval_shape(inputs, jax.random.key(0))
        if not isinstance(made, tuple):
            raise InputError(
                "Pair.inputs: expected it to return a tuple of inputs, it returns "
                f"{type(made).__name__}; write (x,)"
            )
        return made
    if any(isinstance(x, bool) for x in jax.tree.leaves(inputs)):
        raise InputError(
            "Pair.inputs: True and False choose what is computed: they go to linen_kwargs and "
            "nnx_kwargs"
        )
    for item in inputs:
        if isinstance(item, tuple | list) and item and all(type(x) is int for x in item):
            raise InputError(
                f"Pair.inputs: {item} are numbers; for an array of that shape write "
                f'jax.ShapeDtypeStruct({tuple(item)}, "float32")'
            )
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), inputs)


def sample_inputs(
    inputs: Callable[[jax.Array], tuple] | tuple, seed: int, numbers: Mapping[int, WholeNumbers]
) -> tuple:
    """Inputs to compute with: the pair's own, or random ones of their shapes and dtypes.

    Args:
      inputs: those of a `Pair`.
      seed: of the random numbers; with 0, inputs that are given are taken as they are.
      numbers: {number of an input, flat: which whole numbers tell the models apart}.
    """
    if callable(inputs):
        return inputs(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    flat, tree = jax.tree.flatten(inputs)

    def sample(i, x):
        if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
            is_spec = isinstance(x, jax.ShapeDtypeStruct)
            return jnp.broadcast_to(jax.random.key(seed), x.shape) if is_spec else x
        if isinstance(x, jax.ShapeDtypeStruct):
            if jnp.issubdtype(x.dtype, jnp.floating):
                return jax.device_put(rng.standard_normal(x.shape).astype(x.dtype))
            own = numbers.get(i, WholeNumbers())
            return jax.device_put(np.asarray(own.sample(rng, x.shape), x.dtype))
        if seed and jnp.size(x) == 1 and i in numbers:
            others = [n for n in numbers[i].telling if n != x] or [int(x)]
            return jnp.full(jnp.shape(x), others[seed % len(others)], jnp.result_type(x))
        if seed and jnp.issubdtype(jnp.result_type(x), jnp.floating) and not _is_mask([x]):
            moved = x + rng.standard_normal(jnp.shape(x)) * (1 + float(jnp.std(jnp.asarray(x))))
            # A model may take a logarithm of what is given without a sign.
            moved = jnp.abs(moved) if jnp.all(jnp.asarray(x) >= 0) else moved
            return jnp.asarray(moved, jnp.result_type(x))
        if seed:
            return jnp.asarray(rng.permuted(np.asarray(x).reshape(-1)).reshape(jnp.shape(x)))
        return jnp.asarray(x)

    return jax.tree.unflatten(tree, [sample(i, x) for i, x in enumerate(flat)])


def masks(inputs: Callable[[jax.Array], tuple] | tuple) -> frozenset[int]:
    """The numbers, flat, of the inputs of a pair that are masks although they are floating.

    Models agree where a mask is 0 or 1 and nowhere else; nobody takes a gradient by one.
    """
    if callable(inputs):
        with during("Pair.inputs, called with a key"):
            given = [inputs(jax.random.key(seed)) for seed in range(3)]
    else:
        given = [inputs]
    flat = [jax.tree.leaves(each) for each in given]
    return frozenset(i for i, each in enumerate(zip(*flat, strict=True)) if _is_mask(each))


def _is_mask(samples: Sequence[Any]) -> bool:
    """Whether they hold 0 and 1 and nothing else. What is all ones is a number to begin with."""
    is_given = not any(isinstance(x, jax.ShapeDtypeStruct) for x in samples)
    if not is_given or not jnp.issubdtype(jnp.result_type(samples[0]), jnp.floating):
        return False
    zeros, ones = ([np.asarray(x) == number for x in samples] for number in (0, 1))
    only = all(bool(np.all(zero | one)) for zero, one in zip(zeros, ones, strict=True))
    return only and any(map(np.any, zeros)) and any(map(np.any, ones))
