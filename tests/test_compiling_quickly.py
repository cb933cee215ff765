"""A model is traced once for its results and its gradients, and compiled in a hurry where told."""

import collections
from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.cases import CASES
from shared.interface import load_implementation
from shared.models import gradients
from shared.models.gradients import gradients_of, known_options, results_and_gradients, run
from shared.models.pure_pair import pure_case, pure_pair
from shared.program import traced_once
from shared.program.traced_once import Part, TracedOnce
from shared.verification import programs, runs
from shared.verification.limits import Limits
from shared.verification.sample import is_far

X = jnp.ones((2, 3))
FORWARD_AND_GRADIENTS = ("forward", "gradients")


@pytest.fixture
def dense():
    return pure_pair(Pair(nn.Dense(4), lambda rngs: nnx.Linear(3, 4, rngs=rngs), (X,))).linen


def ones(model):
    return {path: jnp.ones(leaf.shape, leaf.dtype) for path, leaf in model.leaves.items()}


@pytest.fixture
def unknown(monkeypatch):
    """With an option that no XLA has."""
    monkeypatch.setattr(gradients, "QUICK_OPTIONS", {**gradients.QUICK_OPTIONS, "xla_none": True})
    known_options.cache_clear()
    yield
    known_options.cache_clear()


def test_this_xla_has_all_options():
    known_options.cache_clear()
    assert known_options() == gradients.QUICK_OPTIONS


def test_an_option_that_xla_does_not_have_is_left_out(unknown):
    assert "xla_none" not in known_options()
    assert gradients.compiled_quickly(jnp.sin)(X).shape == X.shape


def test_what_is_compiled_quickly_is_compiled_with_the_options(monkeypatch):
    monkeypatch.setattr(gradients, "known_options", lambda: {"xla_none": True})
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        gradients.compiled_quickly(jnp.cos)(X)


def test_what_is_compiled_quickly_is_the_same_function(dense):
    slow, fast = (run(dense, [], ones(dense), (X,), quickly=quickly) for quickly in (False, True))
    # Sums of whole numbers are exact, in any order.
    assert jax.tree.all(jax.tree.map(jnp.array_equal, slow[0], fast[0]))


def port_times(factor, dtype=None):
    """A dense layer, and a port of it whose outputs are `factor` times as large."""

    class Port(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(3, 4, dtype=dtype, rngs=rngs)

        def __call__(self, x):
            return factor * self.dense(x)

    return Pair(nn.Dense(4, dtype=dtype), lambda rngs: Port(rngs), (X,))


@pytest.fixture
def compiled(monkeypatch):
    """The names of the functions that compile a model, of each call."""
    names = []
    for name in ("run_forward", "run"):
        function = getattr(runs, name)

        def listened(*args, name=name, function=function):
            names.append(name)
            return function(*args)

        monkeypatch.setattr(runs, name, listened)
    return names


@pytest.mark.parametrize(("factor", "is_compiled"), [(1.02, False), (1.001, True)])
def test_results_that_are_far_apart_are_not_compiled(factor, is_compiled, compiled):
    found = verify(port_times(factor), samples=1, checks=FORWARD_AND_GRADIENTS)
    assert set(compiled) == ({"run_forward", "run"} if is_compiled else set())
    assert found.verdict == "different"
    _, *checks = found.checks
    assert [check.name for check in checks] == list(FORWARD_AND_GRADIENTS)
    for check in checks:
        assert (check.status, check.note) == ("different", "in float64 they part")
        assert check.max_rel == pytest.approx(factor - 1, rel=0.3)


def test_what_limits_decide_is_compiled(compiled):
    options = {"limits": Limits(rtol=0.05), "samples": 1, "checks": FORWARD_AND_GRADIENTS}
    assert verify(port_times(1.02), **options).verdict == "close"
    assert {*compiled} == {"run_forward", "run"}


def test_what_computes_in_half_precision_is_compiled(compiled):
    pair = port_times(1.5, jnp.bfloat16)
    assert verify(pair, samples=1, checks=FORWARD_AND_GRADIENTS).verdict == "different"
    assert {*compiled} == {"run_forward", "run"}


def test_gradients_alone_are_compiled(compiled):
    assert verify(port_times(1.02), samples=1, checks=("gradients",)).verdict == "different"
    assert {*compiled} == {"run"}


@pytest.mark.parametrize("limit", ["_FEW", "_FEW_NUMBERS"])
def test_of_a_long_program_results_are_compiled(limit, compiled, monkeypatch):
    monkeypatch.setattr(programs, limit, 0)
    assert verify(port_times(1.02), samples=1, checks=FORWARD_AND_GRADIENTS).verdict == "different"
    assert {*compiled} == {"run_forward", "run"}


def test_of_a_long_backward_program_gradients_are_compiled(compiled, monkeypatch):
    few = max(len(p.graph.nodes) for p in ported_of(port_times(1.02)).programs)
    monkeypatch.setattr(programs, "_FEW", few)
    assert verify(port_times(1.02), samples=1, checks=FORWARD_AND_GRADIENTS).verdict == "different"
    assert {*compiled} == {"run"}


def ported_of(pair):
    return verify(pair, samples=1, checks=("programs",)).ported


def test_numbers_that_a_product_adds_up_are_counted():
    linen, _ = ported_of(port_times(2)).programs
    (product,) = [node for node in linen.graph.nodes if node.op == "dot_general"]
    # (2, 3) times (3, 4): 8 numbers, each the sum of 3.
    assert programs._num_computed(product) == 8 + 24


def test_far_apart_in_float64_as_it_is_written(compiled):
    """A loop carries numbers of its own type: it is computed in that."""

    class Looped(nn.Module):
        @nn.compact
        def __call__(self, x):
            return looped(nn.Dense(4, param_dtype=jnp.float64)(x))

    class Port(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(3, 4, param_dtype=jnp.float64, rngs=rngs)

        def __call__(self, x):
            return 1.1 * looped(self.dense(x))

    def looped(x):
        return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 2), (0, x))[1]

    with jax.enable_x64(True):
        inputs = (jnp.ones((2, 3), jnp.float64),)
        found = verify(Pair(Looped(), lambda rngs: Port(rngs), inputs), samples=1)
    forward = next(check for check in found.checks if check.name == "forward")
    assert "run_forward" not in compiled
    assert (found.verdict, forward.status) == ("different", "different")
    assert forward.max_rel == pytest.approx(0.1)


def test_what_is_far_apart():
    x = np.array([1.0, -50.0, 3.0, np.inf, np.nan])
    apart = np.array([0, 0, 0.4, 0, 0])
    assert not is_far(x, x + apart)
    assert is_far(x, x + 2 * apart)
    assert is_far(x + 2 * apart, x)
    assert not is_far(x, x[:3])
    # What is left of a difference, a hundredth of 1 at most.
    assert not is_far(np.zeros(2), np.array([0, 9e-3]))
    assert is_far(np.zeros(2), np.array([0, 2e-2]))
    assert not is_far(x[:3].astype(int), 2 * x[:3].astype(int))
    assert not is_far(*(jax.random.split(jax.random.key(seed)) for seed in (0, 1)))


def test_a_model_of_a_case_is_traced_once_for_all_checks():
    called = collections.Counter()

    def load(name):
        implementation = load_implementation(name)

        def apply(*args):
            called[name] += 1
            return implementation.apply(*args)

        return SimpleNamespace(init=implementation.init, apply=apply)

    assert verify(pure_case(CASES["shared"], load), samples=1).verdict == "identical"
    assert called == {"linen": 1, "nnx": 1}


def test_it_is_compiled_once_for_all_that_xla_is_told():
    once, told = TracedOnce(jnp.sin), {"xla_backend_optimization_level": 0}
    assert once.jitted((X,)) is once.jitted((X + 1,), {})
    assert once.jitted((X,), told) is once.jitted((X,), dict(told))
    assert once.jitted((X,), told) is not once.jitted((X,))


def test_what_is_compiled_is_what_was_traced():
    traced = []
    once = TracedOnce(lambda x: traced.append(x) or {"a": x + 1})
    once.program(jax.ShapeDtypeStruct(X.shape, X.dtype))
    # The program would go through `jaxpr_as_fun` if it were traced to one more.
    with mock.patch.object(traced_once.core, "jaxpr_as_fun", side_effect=AssertionError):
        assert jnp.array_equal(once.jitted((X,))(X)["a"], X + 1)
    assert len(traced) == 1


def test_gradients_and_results_come_of_one_trace(dense, monkeypatch):
    traced = []
    weights = gradients._weights
    monkeypatch.setattr(gradients, "_weights", lambda *of: traced.append(of) or weights(*of))
    shapes = jax.eval_shape(results_and_gradients(dense, []), dense.leaves, (X,))
    assert jax.eval_shape(gradients_of(dense, []), dense.leaves, (X,)) == shapes[1]
    run(dense, [], ones(dense), (X,))
    assert len(traced) == 1


def test_a_part_is_what_the_function_returns_there():
    whole = TracedOnce(lambda x: ((x, x + 1), {"a": x * 2}, [x - 3]))
    for number, expected in enumerate(((X, X + 1), {"a": X * 2}, [X - 3])):
        assert jax.tree.all(jax.tree.map(jnp.array_equal, Part(whole, number)(X), expected))
