"""What `benchmarks.performance` times are the same numbers, and its limits no fewer products.

No test asserts a time.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.performance import limits, peers, steps
from benchmarks.performance.peers import Weights, models
from benchmarks.performance.peers import numpy as with_numpy
from shared.bench.pure_jax import layer_list, stack
from shared.bench.pure_layers import dense_relu

SIZE = (4, 3, 8)
B, N, F = SIZE
WEIGHTS, X = steps.made(SIZE)


@pytest.fixture(scope="module")
def plain_jax():
    return models.plain_jax(WEIGHTS, X)


def test_plain_products_are_all_kept():
    kernels, ones = list(jnp.array(WEIGHTS.kernel)), jnp.ones((B, F))
    forward = limits.compiled(limits.products, kernels, X)
    gradient = limits.compiled(limits.products_of_gradient, kernels, X, ones)
    assert limits.num_products(forward) == N
    assert limits.num_products(gradient) == 3 * N - 1


def test_a_product_that_is_dropped_is_counted():
    def dropped(kernels, x, gradient):
        outputs, (first, *_) = limits.products_of_gradient(kernels, x, gradient)
        return outputs, first

    kernels = list(jnp.array(WEIGHTS.kernel))
    assert limits.num_products(limits.compiled(dropped, kernels, X, X)) == N + 1


def test_plain_products_are_those_of_the_pass():
    """Without relu its gradient is that of the products."""
    kernels = list(jnp.array(WEIGHTS.kernel))
    outputs, of_kernels = limits.products_of_gradient(kernels, X, jnp.ones((B, F)))
    expected = jax.grad(lambda kernels: limits.products(kernels, X).sum())(kernels)
    np.testing.assert_allclose(outputs, limits.products(kernels, X), rtol=1e-6)
    for found, each in zip(reversed(of_kernels), expected, strict=True):
        np.testing.assert_allclose(found, each, rtol=1e-4, atol=1e-5)


def test_a_scan_copies_the_weights_of_a_layer_and_a_list_does_not():
    bias, kernel = map(jnp.array, WEIGHTS)
    leaves = [leaf for pair in zip(bias, kernel, strict=True) for leaf in pair]
    scan = limits.compiled(stack(dense_relu), (bias, kernel), X)
    in_a_list = limits.compiled(layer_list, leaves, X)
    copies = limits.compiled(limits.scanned_copies, kernel, X)
    assert limits.copied_bytes(scan, F * F) == 4 * F * F
    assert limits.copied_bytes(copies, F * F) == 4 * F * F
    assert limits.copied_bytes(in_a_list, F * F) == 0


@pytest.mark.parametrize("name", ["nnx layer list", "numpy"])
def test_the_results_are_those_of_hand_written_jax(plain_jax, name):
    if name == "numpy":
        column = with_numpy.columns(WEIGHTS, X)[name]
    else:
        column = models.nnx_layer_list(WEIGHTS, X)
    assert name in steps.compared(SIZE, {"jax": plain_jax, name: column})
    outputs, (value, gradient) = steps.results(column)
    expected, (expected_value, expected_gradient) = steps.results(plain_jax)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    for found, each in zip(gradient, expected_gradient, strict=True):
        np.testing.assert_allclose(found, each, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", ["outputs", "bias", "kernel"])
def test_other_results_are_not_timed(plain_jax, what):
    def outputs(returned):
        return np.asarray(returned)[::-1]

    def gradients(returned):
        value, gradient = plain_jax.gradients(returned)
        return value, gradient._replace(**{what: getattr(gradient, what)[::-1]})

    changed = {"outputs": outputs} if what == "outputs" else {"gradients": gradients}
    columns = {"jax": plain_jax, "other": dataclasses.replace(plain_jax, **changed)}
    with pytest.raises(AssertionError, match="other"):
        steps.compared(SIZE, columns)


def test_a_framework_that_is_missing_is_a_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(models, "columns", lambda weights, x: {})
    columns, notes = peers.columns(Weights(*WEIGHTS), X)
    assert list(columns) == ["numpy"]
    assert len(notes) == len(peers.OTHERS)
    assert all("-e '.[peers]'" in note for note in notes)
