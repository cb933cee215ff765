"""Random values for every leaf, comparison by bits, and the text of a lowered program."""

import functools
import re

import jax
import numpy as np
import pytest

from shared import find_weight_map
from shared.models.pair import pure_case, pure_pair
from shared.trees import flatten, unflatten


def planted_rows(bugs, rank):
    """The rows of a table of mistakes, those marked that are one more of a kind.

    Args:
      bugs: (pair, kind, ...) of each.
      rank: of a model, the lower the sooner it stands for a kind.
    """
    first = {}
    for row in sorted(bugs, key=lambda row: rank(row[0].split(".")[0])):
        first.setdefault(row[1], row)
    kept = [id(row) for row in first.values()]
    for i, row in enumerate(bugs):
        # Mistakes in one model go to one process: they share what is known of Linen's side.
        marks = [pytest.mark.xdist_group(row[0])]
        if id(row) not in kept:
            marks.append(pytest.mark.thorough)
        yield pytest.param(row, id=f"{row[0]}-{row[1]}-{i}", marks=marks)


def random_variables(case, seed=0, dtype=np.float32):
    """Linen's variables with random values in every leaf: initial zeros would hide a lost bias."""
    rng = np.random.default_rng(seed)
    leaves = {
        path: (rng.standard_normal(leaf.shape) * 0.5).astype(dtype)
        for path, leaf in weights_of(case).linen.items()
    }
    return unflatten(leaves)


@functools.cache
def weights_of(case):
    """The map between the variables of both implementations, as `verify` finds it."""
    return find_weight_map(pure_case(case))


def linen_to_nnx(case, variables):
    return weights_of(case).to_nnx(variables)


def nnx_to_linen(case, variables):
    return weights_of(case).to_linen(variables)


def moved_there_and_back(pair, weights=None):
    """Random weights of Linen moved to NNX: (the pair's models, Linen's, NNX's, Linen's again)."""
    pure, weights = pure_pair(pair), weights or find_weight_map(pair)
    rng = np.random.default_rng(0)
    linen = {
        path: rng.standard_normal(spec.shape).astype(spec.dtype)
        for path, spec in pure.linen.leaves.items()
    }
    moved = flatten(weights.to_nnx(unflatten(linen)))
    return pure, linen, moved, flatten(weights.to_linen(unflatten(moved)))


def random_batch(case, seed=1, dtype=np.float32):
    """(B, F)."""
    return np.random.default_rng(seed).standard_normal(case.input_shape).astype(dtype)


def assert_identical(expected, received, what=""):
    """Two arrays or plain trees agree in every path, shape, dtype and bit."""
    expected, received = _leaves(expected), _leaves(received)
    assert expected.keys() == received.keys(), what
    for path in expected:
        a, b = expected[path], received[path]
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{what} {path}"
        if a.tobytes() != b.tobytes():
            worst = np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)))
            raise AssertionError(f"{what} {path}: not bitwise equal, max abs difference {worst}")


def _leaves(tree):
    leaves = flatten(tree) if isinstance(tree, dict) else {"": tree}
    return {path: np.asarray(leaf) for path, leaf in leaves.items()}


def lowered_text(function, *args):
    """The StableHLO of `function`, its functions renamed in order, paths of arguments dropped."""
    text = jax.jit(function).lower(*args).as_text()
    text = re.sub(r"^module @\S+", "module", text, flags=re.M)
    text = re.sub(r' \{jax\.result_info = "[^"]*"\}', "", text)
    names = {}
    return re.sub(r"@[\w.]+", lambda m: names.setdefault(m[0], f"@f{len(names)}"), text)
