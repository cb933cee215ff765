"""The batch that a forward pass runs on: (B, F), float32, checked."""

import dataclasses
from typing import Any

import numpy as np

from shared.cases import Case, Input
from shared.errors import InputError
from shared.files import LoadedArray


@dataclasses.dataclass(frozen=True)
class Batch:
    """Examples and where they are from.

    Attributes:
      x: (B, F), float32.
      source: a file or a seed, for people.
      feature_names: F names, if the data has any.
      notes: what the reader should know about the data, a line each.
    """

    x: np.ndarray
    source: str
    feature_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def seeded_batch(case: Case, seed: int) -> Batch:
    """Standard normal examples at the sizes of `case`, the same for both implementations."""
    row = case.inputs[0]
    x = _seeded_array(case, row, np.random.default_rng(seed))
    what = "standard normal" if is_floating(row) else f"below {case.axis_sizes[row.below]}"
    return Batch(x, f"{what}, seed {seed}")


def _seeded_array(case: Case, row: Input, rng: np.random.Generator) -> np.ndarray:
    """Standard normal numbers, or integers below the size that the row names."""
    if is_floating(row):
        return rng.standard_normal(case.shape(row), dtype=np.float32)
    return rng.integers(case.axis_sizes[row.below], size=case.shape(row), dtype=row.dtype)


def seeded_inputs(case: Case, seed: int, x: Any = None) -> tuple:
    """The inputs of a call: the batch `x`, or a seeded one, and what else the case takes.

    Arrays are standard normal; a key is that of the seed.
    """
    import jax

    first = seeded_batch(case, seed).x if x is None else x
    rng = np.random.default_rng((seed, 1))
    others = [
        jax.random.key(seed) if is_key(row) else _seeded_array(case, row, rng)
        for row in case.inputs[1:]
    ]
    return (first, *others)


def zero_inputs(case: Case) -> tuple:
    """Inputs of zeros, to initialise with."""
    import jax
    import jax.numpy as jnp

    # Of their dtype also with `jax_enable_x64`: the cache of an attention takes it from them.
    return tuple(
        jax.random.key(0) if is_key(row) else jnp.zeros(case.init_shape(row), row.dtype)
        for row in case.inputs
    )


def is_key(row: Input) -> bool:
    """Whether an input is the key of a random stream."""
    return row.dtype == "key"


def is_floating(row: Input) -> bool:
    """Whether an input is of floating numbers: those have gradients, and come in every dtype."""
    return row.dtype == "float32"


def check_batch(loaded: LoadedArray, features: int | None = None) -> Batch:
    """The examples in `loaded`, ready for a model.

    Args:
      loaded: of any shape and floating dtype.
      features: the width that the user asked for, or None to take the data's own.

    Raises:
      InputError: it is not (batch, features) with at least one feature, or of another width.
    """
    array, source = loaded.array, loaded.source
    if array.ndim != 2:
        hint = (
            f"for one example, reshape it to (1, {array.size})" if array.ndim == 1 else "reshape it"
        )
        raise InputError(f"{source}: expected (batch, features), received {array.shape}; {hint}")
    width = array.shape[1]
    if width == 0:
        raise InputError(f"{source}: expected at least one feature, received {array.shape}")
    if features not in (None, width):
        raise InputError(
            f"{source}: x.shape[-1] is {width}, but --features={features}; they must be equal, for "
            f"what a scan carries from layer to layer keeps its width; leave --features out, or "
            f"pass data of width {features}"
        )
    with np.errstate(over="ignore"):  # reported below, as infinite
        x = np.ascontiguousarray(array, np.float32)
    return Batch(x, source, loaded.column_names, tuple(_notes(array, x, source)))


def _notes(array: np.ndarray, x: np.ndarray, source: str) -> list[str]:
    notes = []
    if array.dtype.newbyteorder("=") != x.dtype:
        notes.append(f"{source}: stored as {array.dtype.name}, computed in float32")
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = map(int, np.argwhere(bad)[0])
        notes.append(
            f"{source}: {int(bad.sum())} of {x.size} values are NaN or infinite, the first at "
            f"[{row}, {column}]; they spread over their own example, to no other"
        )
    return notes
