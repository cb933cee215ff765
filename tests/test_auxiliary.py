"""What layers sow, and the gradients of what is inside: all of it, of each layer and example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from helpers import linen_to_nnx, random_inputs, random_variables, small

from linen_impl.auxiliary import ObservedBlock
from nnx_impl import auxiliary
from shared.cases import CASES

CASE = small(CASES["auxiliary"])
X, HIDDEN = random_inputs(CASE)


def by_hand(variables, hidden):
    """What is before relu (B, N, F), in NumPy."""
    rows = np.zeros_like(hidden)
    dense = variables["params"]["Dense_0"]
    for b, x in enumerate(X):
        for n, (w, bias) in enumerate(zip(dense["kernel"], dense["bias"], strict=True)):
            rows[b, n] = x @ w + bias + hidden[b, n]
            x = np.maximum(rows[b, n], 0)
    return rows


def test_what_is_sown_is_that_of_each_layer_and_example(linen, nnx):
    variables = random_variables(CASE)
    expected = by_hand(variables, HIDDEN)
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(CASE, variables))):
        (_, before, size), _ = implementation.apply(CASE, moved, X, HIDDEN)
        np.testing.assert_allclose(before, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(size, (expected**2).mean(axis=-1), rtol=1e-5)


def test_losses_of_all_layers_reach_the_gradient(linen, nnx):
    variables = random_variables(CASE)
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(CASE, variables))):
        loss = lambda v, run=implementation.apply: run(CASE, v, X, HIDDEN)[0][2].sum()  # noqa: E731
        for leaf in jax.tree.leaves(jax.grad(loss)(moved)):
            assert np.all(np.abs(leaf).reshape(CASE.num_layers, -1).sum(axis=1) > 0)


def test_the_gradient_by_a_perturbation_is_that_of_what_is_perturbed(linen, nnx):
    """Of the last layer: 1 where relu lets through, 0 elsewhere."""
    variables, zeros = random_variables(CASE), np.zeros_like(HIDDEN)
    expected = by_hand(variables, zeros)[:, -1] > 0
    assert 0 < expected.sum() < expected.size
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(CASE, variables))):
        total = lambda h, v=moved, run=implementation.apply: run(CASE, v, X, h)[0][0].sum()  # noqa: E731
        np.testing.assert_array_equal(jax.grad(total)(zeros)[:, -1], expected)


@pytest.mark.parametrize("level", ["scan", "vmap"])
def test_a_collection_without_an_axis_is_empty_in_silence(level):
    axes = {"params": 0, "intermediates": 0}
    left_out = {"params": 0}
    scan = flax_linen.scan(
        ObservedBlock,
        variable_axes=left_out if level == "scan" else axes,
        split_rngs={"params": True},
        length=3,
    )
    shared = {"params": None, "intermediates": 0}
    model = flax_linen.vmap(
        scan,
        in_axes=0,
        variable_axes={"params": None} if level == "vmap" else shared,
        split_rngs={"params": False},
    )(features=5)
    variables = {"params": random_variables(CASE)["params"]}
    _, seen = model.apply(variables, X, None, mutable=["intermediates"])
    assert seen == {}


def test_a_capture_outside_of_the_vmap_is_refused():
    model = auxiliary.Observed(3, 5, rngs=flax_nnx.Rngs(0))

    def stack(layers, x):
        scan = flax_nnx.scan(
            auxiliary.ObservedBlock.__call__,
            in_axes=(0, flax_nnx.Carry),
            out_axes=flax_nnx.Carry,
            graph=False,
        )
        return scan(layers, x)

    batched = flax_nnx.vmap(stack, in_axes=(None, 0), graph=False)
    with pytest.raises(ValueError, match="axis spec None but output was batched"):
        flax_nnx.capture(batched, flax_nnx.Intermediate)(model.layers, jnp.asarray(X))


def test_the_losses_of_linens_init_are_in_apply_twice():
    model = ObservedBlock(5)
    variables = model.init(jax.random.key(0), jnp.ones(5), None)
    for given, times in ((variables, 2), ({"params": variables["params"]}, 1)):
        _, seen = model.apply(given, jnp.ones(5), None, mutable=["losses"])
        assert len(seen["losses"]["size"]) == times
