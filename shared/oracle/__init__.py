"""A third opinion on every case: loops over examples and layers in NumPy, in float64.

Both implementations run on the same compiler, so they can agree on a wrong number.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from shared.batch import is_floating
from shared.cases import Case
from shared.interface import Variables
from shared.oracle import attention, branches, stacks, transformer
from shared.oracle.rounding import At
from shared.trees import flatten

# Those with a bound that no order of operations leaves.
BOUNDED = {
    each.__name__: each
    for each in (
        stacks.relu_stack,
        stacks.relu_pairs,
        stacks.tied_embedding,
        stacks.conditioned_stack,
        stacks.running_norm_stack,
        stacks.scaled_relu_stack,
        stacks.perturbed_stack,
        stacks.dropout_stack,
        stacks.dropout_stack_of_one_mask,
        branches.choosing_stack,
    )
}

# Those of which such a bound says nothing: an exponential, a small variance or a loop makes it grow
# from step to step, far beyond what any run does.
EVALUATED: dict[str, Callable[..., np.ndarray]] = {
    each.__name__: each
    for each in (
        stacks.batch_norm_stack,
        branches.repeating_stack,
        attention.causal_stack,
        attention.decode_stack,
        transformer.texts,
        transformer.dropped_texts,
        transformer.next_token,
    )
}

# How many times as far from float64 a float32 result may be as NumPy's own is at most.
TIMES_NUMPY = 64


def forward(
    case: Case, variables: Variables, *inputs: Any, unit_roundoff: float = 2.0**-24
) -> tuple[np.ndarray, np.ndarray]:
    """The activation in float64, and how far a correct float32 result may be from it.

    Args:
      case: one with an oracle; it gives the meaning of each axis of the variables.
      variables: Linen's.
      *inputs: the batch (B, F), and what else the case takes.
      unit_roundoff: of the arithmetic under test; float32 unless told.

    Returns:
      activation (B, F) and bound (B, F), both float64.
    """
    name = str(case.oracle)
    if name in BOUNDED:
        at = leaf_at(case, variables, np.float64)
        return BOUNDED[name](case, at, unit_roundoff, *inputs)
    exact, rounded = (
        EVALUATED[name](
            case,
            leaf_at(case, variables, dtype),
            *(
                np.asarray(x, dtype) if is_floating(row) else x
                for row, x in zip(case.inputs, inputs, strict=True)
            ),
        ).astype(np.float64)
        for dtype in (np.float64, np.float32)
    )
    rounding = np.abs(exact - rounded).max(initial=0.0)
    return exact, np.full(exact.shape, TIMES_NUMPY * rounding)


def leaf_at(case: Case, variables: Variables, dtype: Any) -> At:
    """The leaf of a name, in `dtype`, at a place of those of its axes that are named.

    A kernel is returned as (in, out), however it is kept.
    """
    leaves = {path: np.asarray(leaf, dtype) for path, leaf in flatten(variables).items()}

    def at(name: str, **place: int) -> np.ndarray:
        paths = sorted(
            (p for p in leaves if f"/{p}".endswith(f"/{name}")), key=lambda p: (len(p), p)
        )
        axes = case.leaf(paths[0]).axes
        # Of a list of layers each has a leaf of its own, `layers_2` before `layers_10`.
        path = paths[0 if "layers" in axes or len(paths) == 1 else place["layers"]]
        found = leaves[path][tuple(place.get(axis, slice(None)) for axis in axes)]
        left = [axis for axis in axes if axis not in place]
        return found.T if left == ["out", "in"] else found

    return at
