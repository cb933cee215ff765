"""What is measured of calls, growth and memory is what is said. No test asserts a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.performance import dispatch, growth, memory
from shared.bench.compilations import count_compilations
from shared.bench.stages import Stages
from shared.report.measured import Quantity, Table


@pytest.mark.parametrize("power", [-1, 0, 0.5, 1, 2])
def test_the_exponent_of_a_power_is_found(power):
    sizes = [16, 64, 256, 1024]
    values = [3e-4 * size**power for size in sizes]
    assert growth.exponent(sizes, values) == power


def test_exponents_are_fitted_from_16_on():
    sizes = growth.Sizes("layers", "shared", "num_layers", (4, 16, 64), {})
    values = {4: 100.0, 16: 16.0**2, 64: 64.0**2}
    rows = [Quantity(f"init, {n}", "s", {"nnx": value}, {}) for n, value in values.items()]
    found = growth.exponents([(sizes, Table("", tuple(rows)))])
    assert [row.name for row in found.rows] == ["layers: init"]
    assert found.rows[0].values == pytest.approx({"nnx": 2})
    assert "layers 16 ... 64" in found.notes[0]


def test_a_fresh_function_is_compiled_once_and_then_no_more():
    x = jnp.ones(3)
    call = jax.jit(lambda x: jnp.sin(x) + 1)
    assert count_compilations(lambda: call(x)) == 1
    assert count_compilations(lambda: call(x)) == 0


def test_each_way_to_call_gives_the_same_number():
    found = dispatch.calls(10)
    assert list(found)[:4] == [
        "jax, tuple of leaves",
        "jax, nested dict",
        "linen",
        "nnx, split, flat leaves",
    ]
    numbers = {}
    for name, call in found.items():
        returned = call()
        numbers[name] = float(returned[0] if isinstance(returned, tuple) else returned)
    expected = numbers["jax, tuple of leaves"]
    assert expected != 0
    assert numbers == pytest.approx(dict.fromkeys(numbers, expected), rel=1e-5)


def test_a_slope_is_found_of_times_that_differ_by_much():
    rows = [
        Quantity("", "s", {"a": 5e-6 + 1e-6 * n, "b": 1e-4 + 3e-6 * n}, {})
        for n in dispatch.NUM_LEAVES
    ]
    found = dispatch.each_leaf(rows)
    assert found.values == pytest.approx({"a": 1e-6, "b": 3e-6})
    assert found.ratios["b"].median == pytest.approx(3)


@pytest.mark.parametrize("sizes", [growth.SCANNED, growth.IN_A_LOOP], ids=lambda sizes: sizes.case)
def test_what_is_made_ready_returns_the_same_shapes_in_each_column(sizes):
    sizes = sizes._replace(fixed={"batch_size": 4, "features": 5})
    found = growth.functions(growth.subject(sizes, 3))
    for what in (growth.FORWARD, growth.GRADIENT):
        shapes = {
            name: _described(jax.eval_shape(function, *args))
            for name, (function, *args) in found[what].items()
        }
        assert shapes["linen"] == shapes["nnx"] == shapes["jax"]
    weights = [jax.eval_shape(*words) for words in found[growth.INIT].values()]
    assert _described(weights[0]) == _described(weights[1])


def _described(tree):
    return sorted((x.shape, str(x.dtype)) for x in jax.tree.leaves(tree))


def test_what_takes_long_is_made_ready_once(monkeypatch):
    made = []

    def stages(name, seconds):
        made.append(name)
        return Stages(seconds, 0, 0, 0, 0, 0, 0)

    monkeypatch.setattr(growth, "stages", stages)
    keys = {("init", 4, "linen"): ("fast", 0.1), ("init", 4, "nnx"): ("slow", 2 * growth.LONG)}
    found = growth.made_ready(keys)
    assert made == ["fast", "slow"] + ["fast"] * (growth.TIMES - 1)
    assert {len(all_) for all_ in found.values()} == {growth.TIMES}


@pytest.mark.parametrize("way", memory.WAYS)
def test_each_way_to_make_the_weights_makes_them(way):
    shapes = sorted(x.shape for x in jax.tree.leaves(memory.WAYS[way](3, 5)))
    assert shapes == [(3, 5), (3, 5, 5)]


def test_peak_memory_is_that_of_the_weights_at_least(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", (64, 512))
    # Held beside the weights while they are made: one more time what they take.
    monkeypatch.setitem(memory.WAYS, "twice", _twice)
    assert memory.peak_over_weights("twice") > 1.5


def _twice(num_layers, features):
    first = np.ones((num_layers, features, features), np.float32)
    return jnp.asarray(first + 1)
