"""Random values for every leaf, comparison by bits, and the text of a lowered program."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from shared import find_weight_map
from shared.batch import is_floating, seeded_inputs
from shared.models.pure_pair import pure_case, pure_pair
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


def each(cases):
    """Parameters, one of each case, whose tests go to one process: it finds the weights once."""
    for case in cases:
        yield pytest.param(case, id=case.name, marks=pytest.mark.xdist_group(case.name))


def small(case):
    """`case` at sizes that all differ: no axis passes for another."""
    return dataclasses.replace(case, num_layers=3, features=5, batch_size=4)


def random_variables(case, seed=0, dtype=np.float32):
    """Linen's variables with random values in every leaf: initial zeros would hide a lost bias."""
    rng = np.random.default_rng(seed)
    leaves = {}
    for path, leaf in weights_of(case).linen.items():
        values = rng.standard_normal(leaf.shape) * 0.5
        if path.endswith(("/var", "/scale")):
            values = np.abs(values) + 0.5
        is_statistic = path.startswith("batch_stats/")  # float32, whatever the params are
        is_floating = np.issubdtype(leaf.dtype, np.floating)
        kind = dtype if is_floating and not is_statistic else leaf.dtype
        leaves[path] = (values if is_floating else np.zeros(leaf.shape)).astype(kind)
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


def random_inputs(case, seed=1, dtype=np.float32):
    """The batch and what else the case takes, its arrays in `dtype`."""
    x_batch = random_batch(case, seed) if is_floating(case.inputs[0]) else None
    inputs = seeded_inputs(case, seed, x_batch)
    return tuple(
        x.astype(dtype) if is_floating(row) else x
        for row, x in zip(case.inputs, inputs, strict=True)
    )


def run(implementation, case, variables, inputs):
    """Outputs and updates of a call, the updates in Linen's names."""
    outputs, updates = implementation.apply(case, variables, *inputs)
    return outputs, updates_to_linen(case, updates)


def updates_to_linen(case, updates):
    """Updated collections of either implementation, in Linen's names."""
    weights, given = weights_of(case), flatten(updates)
    if given.keys() <= weights.linen.keys():
        return unflatten(given)
    rest = {path: np.zeros(leaf.shape, leaf.dtype) for path, leaf in weights.nnx.items()}
    moved = weights.to_linen(unflatten(rest | given))
    return {name: moved[name] for name in updates}


def vjp(implementation, case, variables, inputs):
    """Outputs and updates, and the gradient by the params and by the inputs that have one."""
    has_gradient = [is_floating(row) for row in case.inputs]

    def of(params, arrays):
        arrays = iter(arrays)
        args = [next(arrays) if has else x for has, x in zip(has_gradient, inputs, strict=True)]
        return run(implementation, case, {**variables, "params": params}, args)

    arrays = [x for has, x in zip(has_gradient, inputs, strict=True) if has]
    outputs, pull, updates = jax.vjp(of, variables["params"], arrays, has_aux=True)
    return outputs, updates, pull


def cotangents(outputs, seed=9):
    """A random projection of the outputs: every number has its own weight."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda y: rng.standard_normal(y.shape).astype(y.dtype), outputs)


def pulled(implementation, case, variables, inputs):
    """The gradient of a random projection of the outputs."""
    outputs, _, pull = vjp(implementation, case, variables, inputs)
    return pull(cotangents(outputs))


def gradients(implementation, case, variables, inputs):
    """Of a random projection of the outputs, those by the params in Linen's names.

    Of a case that has none, that it is refused.
    """
    if case.no_gradient:
        with pytest.raises(ValueError, match=case.no_gradient):
            pulled(implementation, case, variables, inputs)
        return {}, []
    params, arrays = pulled(implementation, case, variables, inputs)
    return updates_to_linen(case, {"params": params}), arrays


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
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x) for p, x in found}


def lowered_text(function, *args):
    """The StableHLO of `function`, its functions renamed in order, paths of arguments dropped."""
    text = jax.jit(function).lower(*args).as_text()
    text = re.sub(r"^module @\S+", "module", text, flags=re.M)
    text = re.sub(r' \{jax\.result_info = "[^"]*"\}', "", text)
    names = {}
    return re.sub(r"@[\w.]+", lambda m: names.setdefault(m[0], f"@f{len(names)}"), text)
