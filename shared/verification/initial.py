"""What a model starts with beside its params: tables, statistics, caches."""

import math

import numpy as np

from shared.verification.ported import Ported

# More bytes than this are not made to be looked at.
MAX_BYTES = 64 * 2**20
# Tables that NumPy makes on one side and JAX on the other are as near as this.
SAME_TABLE = 1e-5


def other_initial_values(ported: Ported) -> list[str]:
    """Linen's paths of what NNX starts with in other numbers.

    Params start with random numbers, which are other ones in each; a checkpoint replaces all.
    """
    entries = [e for e in ported.entries if not e.linen.leaf.startswith(("params/", "draws/"))]
    paths = {e.linen.leaf for e in entries}, {e.nnx.leaf for e in entries}
    specs = [ported.linen.leaves[path] for path in paths[0]]
    if not specs or sum(math.prod(x.shape) * x.dtype.itemsize for x in specs) > MAX_BYTES:
        return []
    inputs = ported.inputs(0)
    linen = {p: np.asarray(x) for p, x in ported.linen.initial(paths[0], inputs).items()}
    nnx = {p: np.asarray(x) for p, x in ported.nnx.initial(paths[1], inputs).items()}
    found = {
        e.linen.leaf
        for e in entries
        if not _same(e.linen.of(linen[e.linen.leaf]), e.nnx.of(nnx[e.nnx.leaf]))
    }
    return sorted(found)


def _same(x: np.ndarray, y: np.ndarray) -> bool:
    if x.dtype.kind not in "fc" or y.dtype.kind not in "fc":
        return np.array_equal(x, y)
    return np.allclose(x, y, rtol=SAME_TABLE, atol=SAME_TABLE, equal_nan=True)
