"""Older forms of NNX: equal to the modern in the default mode, errors or silence in others."""

import functools

import flax
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from helpers import assert_identical, lowered_text

from nnx_impl.block import Block
from nnx_impl.legacy import Legacy, Modern

DEFAULT = (True, True)
OTHERS = [(True, False), (False, True), (False, False)]
X = jax.random.normal(jax.random.key(1), (4, 5))


@pytest.fixture(params=[DEFAULT, *OTHERS], ids=str)
def mode(request):
    names = ("nnx_graph_mode", "nnx_graph_updates")
    before = [getattr(flax.config, name) for name in names]
    for name, value in zip(names, request.param, strict=True):
        flax.config.update(name, value)
    yield request.param
    for name, value in zip(names, before, strict=True):
        flax.config.update(name, value)


others = pytest.mark.parametrize("mode", OTHERS, ids=str, indirect=True)
default = pytest.mark.parametrize("mode", [DEFAULT], ids=str, indirect=True)


@default
def test_both_are_the_same_program(mode):
    models = [form(3, 5, rngs=nnx.Rngs(params=0)) for form in (Legacy, Modern)]
    params = nnx.to_pure_dict(nnx.state(models[0]))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, nnx.to_pure_dict(nnx.state(models[1]))
    )

    def call(model, params, x):
        graphdef, state = nnx.split(model)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graphdef, state)(x)

    def gradient(model, params, x):
        return jax.grad(lambda params: call(model, params, x).sum())(params)

    for function in (call, gradient):
        legacy, modern = (functools.partial(function, model) for model in models)
        assert lowered_text(legacy, params, X) == lowered_text(modern, params, X)
        assert_identical(legacy(params, X), modern(params, X))


@others
def test_state_axes_are_an_error_in_other_modes(mode):
    message = (
        "`in_axes` cannot contain `StateAxes` objects when `graph=False` or `graph_updates=False`. "
        "Consider the following options:\n\n"
        "1. Remove `StateAxes` objects from `in_axes`.\n"
        "2. Enable graph mode and graph updates by passing graph=True and graph_updates=True to "
        "vmap e.g.\n\n  nnx.vmap(..., graph=True, graph_updates=True)\n\n"
        "3. Use nnx.compat.vmap instead e.g.\n\n  nnx.compat.vmap(...)"
    )
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Legacy(3, 5, rngs=nnx.Rngs(0))
    assert str(caught.value) == message
    with pytest.raises(ValueError, match="cannot contain `StateAxes` objects"):  # no call is made

        class Decorated(nnx.Module):
            @nnx.vmap(in_axes=(nnx.StateAxes({...: None}), 0))
            def __call__(self, x): ...


def test_the_flags_of_the_lift_win_over_the_mode(mode):
    axes = nnx.StateAxes({...: 0})
    init = nnx.vmap(
        lambda rngs: Block(5, rngs=rngs), in_axes=(axes,), graph=True, graph_updates=True
    )
    rngs = nnx.split_rngs(nnx.Rngs(0), splits=3, graph=False)
    assert init(rngs).dense.kernel.shape == (3, 5, 5)


def test_axes_by_type_are_given_as_a_prefix_in_other_modes(mode):
    layers = Modern(3, 5, rngs=nnx.Rngs(0)).layers
    axes = nnx.prefix(layers, {nnx.Param: 0, ...: None}, graph=False)
    scan = nnx.scan(Block.__call__, in_axes=(axes, nnx.Carry), out_axes=nnx.Carry, graph=False)
    assert scan(layers, X).shape == X.shape


class Counted(nnx.Module):
    """A layer that counts its calls."""

    def __init__(self):
        self.count = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x):
        self.count[...] += 1
        return x


def test_updates_of_tied_layers_are_lost_in_the_default_mode_alone(mode):
    layer, axes = Counted(), (None, nnx.Carry)
    nnx.scan(Counted.__call__, in_axes=axes, out_axes=nnx.Carry, length=3)(layer, X)
    assert layer.count[...] == (0 if mode == DEFAULT else 3)


class Seen(nnx.Module):
    """A layer that notes on itself what it has seen."""

    def __call__(self, x):
        self.seen = nnx.Intermediate(x.sum())
        return x


def test_what_a_call_adds_to_a_module_is_kept_in_the_default_mode_alone(mode):
    layers = nnx.vmap(lambda _: Seen(), axis_size=3)(jnp.arange(3))
    nnx.vmap(Seen.__call__)(layers, X[:3])
    assert hasattr(layers, "seen") == (mode == DEFAULT)


@default
def test_what_a_call_adds_to_tied_layers_is_an_error_that_does_not_say_so(mode):
    layer, axes = Seen(), (None, nnx.Carry)
    with pytest.raises(ValueError, match="expected 1 leaves, but got 0"):
        nnx.scan(Seen.__call__, in_axes=axes, out_axes=nnx.Carry, length=3)(layer, X)


def test_split_rngs_changes_what_it_is_given_or_returns_another(mode):
    rngs = nnx.Rngs(params=0)
    returned = nnx.split_rngs(rngs, splits=3)
    changes = mode == DEFAULT
    assert type(returned).__name__ == ("SplitBackups" if changes else "Rngs")
    assert rngs.params.key.shape == ((3,) if changes else ())
