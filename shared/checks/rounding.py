"""Whether rounding to half precision, which both models do, is all that tells them apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from shared.checks.base import Ported, Program
from shared.checks.outputs import pair_outputs, values_of
from shared.program.evaluate import evaluate

# Of the largest output: what is smaller is measured by this.
SMALL = 1e-2


class Rounding(NamedTuple):
    """What half precision does to two programs that are the same without it.

    Attributes:
      is_fine: whether it moves the port no further than the model.
    """

    is_fine: bool
    note: str


def rounding(
    ported: Ported,
    linen: Program,
    nnx: Program,
    sample: int,
    same: Callable[[Any, Any, float], bool],
) -> Rounding | None:
    """What half precision does to both programs; None where they differ without it.

    Args:
      ported: the pair.
      linen: a program of Linen's; nnx: that of NNX.
      sample: which random numbers.
      same: whether two values are equal up to the rounding of float64, that of a size as well.
    """
    pairs = pair_outputs(ported, linen, nnx).pairs
    numbers = ported.sample(sample)
    flat = jax.tree.leaves(numbers.inputs)
    found = []
    for side, (p, leaves) in enumerate(((linen, numbers.linen), (nnx, numbers.nnx))):
        exact = evaluate(p.graph, leaves, flat, casts=False)
        rounded = evaluate(p.graph, leaves, flat, wide=False)
        outputs = values_of(p, pairs, side)
        if None in outputs.values():
            return None
        found.append(
            {
                name: (_floats(exact[value[0]][value[1]]), _floats(rounded[value[0]][value[1]]))
                for name, value in outputs.items()
                if value is not None
            }
        )
    sizes = {name: _largest(exact) for name, (exact, _) in found[0].items()}
    # What is zero but for rounding has that of the others.
    least = SMALL * max(sizes.values(), default=0.0)
    if not all(same(found[0][name][0], found[1][name][0], least) for name in pairs):
        return None
    moved = [
        max(
            _largest(rounded - exact) / max(sizes[name], least)
            for name, (exact, rounded) in each.items()
        )
        for each in found
    ]
    note = f"equal but for rounding, which moves Linen by {moved[0]:.2g}, NNX by {moved[1]:.2g}"
    return Rounding(moved[1] <= moved[0], note)


def _largest(x: np.ndarray) -> float:
    return float(np.abs(x).max(initial=0.0))


def _floats(x: Any) -> np.ndarray:
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
