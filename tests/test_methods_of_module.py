"""What stands in NNX for each method of `nn.Module`, as docs/linen_api.md says, both sides run."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors, nnx
from flax import linen as nn

F = 3
X = jax.random.normal(jax.random.key(1), (2, F))
KEY = jax.random.key(0)


class Losses(nnx.Variable):
    """What Linen has in `losses`."""


class Linen(nn.Module):
    def setup(self):
        self.dense = nn.Dense(F)
        self.norm = nn.BatchNorm(use_running_average=False)
        self.dropout = nn.Dropout(0.5)

    def encode(self, x):
        return self.dense(x)

    def __call__(self, x, deterministic=True):
        return self.dropout(self.norm(self.encode(x)), deterministic=deterministic)


class Nnx(nnx.Module):
    def __init__(self, *, rngs):
        self.dense, self.norm = nnx.Linear(F, F, rngs=rngs), nnx.BatchNorm(F, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)

    def encode(self, x):
        return self.dense(x)

    def __call__(self, x, rngs=None, deterministic=True):
        return self.dropout(self.norm(self.encode(x)), rngs=rngs, deterministic=deterministic)


class Observed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = self.perturb("inside", nn.tanh(x))
        for _ in range(2):
            self.sow("intermediates", "seen", x)
            self.sow("losses", "size", x.sum(), reduce_fn=jnp.add, init_fn=lambda: 0.0)
        return x


class PortObserved(nnx.Module):
    def __call__(self, x):
        x = self.perturb("inside", nnx.tanh(x))
        for _ in range(2):
            self.sow(nnx.Intermediate, "seen", x)
            self.sow(Losses, "size", x.sum(), reduce_fn=jnp.add, init_fn=lambda: 0.0)
        return x


@functools.cache
def initialised():
    """Variables of Linen; each test makes a port with the same params."""
    return Linen().init(KEY, X)


def port():
    model = Nnx(rngs=nnx.Rngs(0))
    nnx.update(model, {"dense": initialised()["params"]["dense"]})
    return model


def assert_close(expected, received):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), expected, received)


def test_sow():
    _, seen = Observed().apply({}, X, mutable=["intermediates", "losses"])
    model = PortObserved()
    _, intermediates, losses = nnx.capture(model, nnx.Intermediate, Losses)(X)
    assert_close(seen["intermediates"]["seen"], intermediates["seen"].get_value())
    assert_close(seen["losses"]["size"], losses["size"][...])
    assert not hasattr(model, "seen")


def test_what_is_not_asked_for_is_not_sown_in_silence():
    both = lambda model, x: (model.sow(Losses, "a", x), model.sow(nnx.Intermediate, "a", x))  # noqa: E731
    assert nnx.capture(both, nnx.Intermediate)(PortObserved(), X)[0] == (False, True)


def test_to_sow_outside_of_a_capture_is_deprecated():
    with pytest.warns(DeprecationWarning, match="outside of 'nnx.capture"):
        PortObserved().sow(nnx.Intermediate, "a", X)


def test_perturb():
    def of_linen(perturbations):
        return (Observed().apply({"perturbations": perturbations}, X) ** 2).sum()

    def of_nnx(perturbations, model):
        return (nnx.capture(model, init=perturbations)(X) ** 2).sum()

    model = PortObserved()
    _, zeros = nnx.capture(model, nnx.Perturbation)(X)
    expected = jax.grad(of_linen)(Observed().init(KEY, X)["perturbations"])
    assert_close(expected["inside"], nnx.grad(of_nnx, graph=False)(zeros, model)["inside"][...])


def test_a_capture_inside_of_jax_grad_is_refused_for_it_writes_into_the_module():
    model = port()
    _, zeros = nnx.capture(model, nnx.Perturbation)(X)
    loss = lambda zeros: nnx.capture(model, init=zeros)(X).sum()  # noqa: E731
    with pytest.raises(errors.TraceContextError, match="Cannot mutate"):
        jax.grad(loss)(zeros)


def test_variable_and_param():
    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x):
            scale = self.param("scale", nn.initializers.constant(2.0), (F,))
            count = self.variable("state", "count", jnp.full, (F,), 7.0)
            count.value += 1
            return scale * count.value * x

    class State(nnx.Variable):
        pass

    class Port(nnx.Module):
        def __init__(self, rngs):
            self.scale = nnx.Param(nnx.initializers.constant(2.0)(rngs.params(), (F,)))
            self.count = State(jnp.full((F,), 7.0))

        def __call__(self, x):
            self.count[...] += 1
            return self.scale * self.count * x

    variables = {"params": {"scale": jnp.full(F, 2.0)}, "state": {"count": jnp.full(F, 7.0)}}
    expected, state = Counted().apply(variables, X, mutable=["state"])
    model = Port(nnx.Rngs(0))
    assert_close(expected, model(X))
    assert_close(state["state"], nnx.to_pure_dict(nnx.state(model, State)))


def test_names_of_axes_are_on_the_variable():
    class Named(nn.Module):
        unbox: bool

        @nn.compact
        def __call__(self):
            init = nn.with_partitioning(nn.initializers.ones_init(), ("model",))
            return self.param("scale", init, (F,), unbox=self.unbox)

    assert Named(unbox=False).init_with_output(KEY)[0].names == ("model",)
    assert isinstance(Named(unbox=True).init_with_output(KEY)[0], jax.Array)
    with nnx.use_eager_sharding(False):
        scale = nnx.Param(jnp.ones(F), out_sharding=("model",))
    assert isinstance(scale[...], jax.Array)
    assert scale.out_sharding == ("model",)


def test_make_rng():
    class Drawing(nn.Module):
        @nn.compact
        def __call__(self):
            return self.make_rng("noise"), self.make_rng("noise"), self.has_rng("noise")

    first, second, has = Drawing().apply({}, rngs={"params": KEY})
    assert first != second
    assert not has
    rngs = nnx.Rngs(0)
    assert rngs.noise() != rngs["noise"]()
    assert "noise" not in rngs
    assert "noise" in nnx.Rngs(noise=0)
    with pytest.raises(AttributeError, match="No RngStream named 'noise'"):
        nnx.Rngs(params=0).noise()


def test_bind():
    bound = Linen().bind(initialised())
    model = port()
    assert_close(bound.encode(X), model.dense(X))
    graphdef, state = nnx.split(model)
    before = model.norm.mean[...]
    nnx.merge(graphdef, state, copy=True)(X)
    assert_close(before, model.norm.mean[...])
    nnx.merge(graphdef, state)(X)  # the variables are those of `model`
    assert np.any(before != model.norm.mean[...])


def test_merge_counts_the_leaves_and_update_does_not():
    model = nnx.Linear(F, F, rngs=nnx.Rngs(0))
    graphdef = nnx.graphdef(model)
    wrong = {"kernel": jnp.ones((F + 1, F + 1)), "scale": jnp.ones(F)}
    nnx.update(model, wrong)
    assert model.kernel.shape == (F + 1, F + 1)
    with pytest.raises(ValueError, match="Incorrect number of leaves"):
        nnx.merge(graphdef, {"kernel": wrong["kernel"]})


def test_apply():
    call = functools.partial(Linen().apply, initialised())
    expected, updates = call(X, mutable=["batch_stats"])
    model = port()
    assert_close(expected, model(X))
    state = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    assert_close(updates["batch_stats"], state)
    assert_close(call(X, method=Linen.encode), model.encode(X))

    kept = call(X, False, mutable=["batch_stats"], rngs={"dropout": KEY})[0] != 0
    for rngs in (nnx.Rngs(dropout=KEY), KEY):
        assert kept.shape == port()(X, rngs, deterministic=False).shape
    with pytest.raises(ValueError, match="no `rngs` argument was provided"):
        port()(X, deterministic=False)


def paths_in(state):
    return {"/".join(path) for path, _ in nnx.to_flat_state(nnx.State(state))}


def test_capture_intermediates():
    def of_linen(capture):
        _, seen = Linen().apply(
            initialised(), X, method="encode", capture_intermediates=capture, mutable=True
        )
        return paths_in(seen["intermediates"])

    def of_nnx(function, *args):
        capture = nnx.capture(function, nnx.Intermediate, method_outputs=nnx.Intermediate)
        return paths_in(capture(*args)[1])

    every = {"encode", "dense/__call__"}
    assert of_linen(True) == {"dense/__call__"}
    assert of_linen(lambda module, name: True) == every | {"setup"}
    model = port()
    assert of_nnx(lambda model, x: model.encode(x), model, X) == every
    # What is bound before its class is looked into is not seen.
    assert of_nnx(model.encode, X) == {"dense/__call__"}


def test_the_outputs_of_an_inherited_method_are_not_captured():
    class Inheriting(Nnx):
        pass

    model = Inheriting(rngs=nnx.Rngs(0))
    capture = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)
    seen = capture(X)[1]
    assert "__call__" not in seen
    assert "__call__" in seen["dense"]


def test_init():
    of_method = Linen().init(KEY, X, method="encode")
    assert of_method["params"].keys() == {"dense"}  # what the method calls, no more
    model = Nnx(rngs=nnx.Rngs(params=0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert params.keys() == initialised()["params"].keys() == {"dense", "norm"}
    expected, _ = Linen().init_with_output(KEY, X)
    assert expected.shape == model(X).shape


def test_lazy_init():
    abstract = jax.ShapeDtypeStruct(X.shape, X.dtype)
    expected = Linen().lazy_init(KEY, abstract)["params"]["dense"]
    model = nnx.eval_shape(lambda: Nnx(rngs=nnx.Rngs(0)))
    received = nnx.to_pure_dict(nnx.state(model, nnx.Param))["dense"]
    assert jax.tree.map(jnp.shape, expected) == jax.tree.map(lambda leaf: leaf.shape, received)
    assert isinstance(received["kernel"], jax.ShapeDtypeStruct)


def table(model, *args, **kwargs):
    shown = nnx.tabulate(model, *args, console_kwargs={"width": 200}, **kwargs)
    return re.sub(r"\x1b\[[\d;]*m", "", shown)


class Twice(nnx.Module):
    def __init__(self, *, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.dense(x))

    def once(self, x):
        return self.dense(x)


def test_tabulate():
    model = Twice(rngs=nnx.Rngs(0))
    assert table(model, X).count("│ dense") == 1  # called twice, shown once
    assert "dense" not in table(model, X, depth=0)
    assert "│ once" in table(model, X, method="once")
    shown = table(model, X, compute_flops=True, compute_vjp_flops=True)
    assert " flops " in shown
    assert " vjp_flops " in shown


def test_tabulate_takes_arrays_and_leaves_its_wrappers_where_it_fails():
    class Scale(nnx.Module):  # a class that is in no other test
        def __call__(self, x):
            return 2 * x

    abstract = jax.ShapeDtypeStruct(X.shape, X.dtype)
    for tabulate in (functools.partial(nn.Dense(F).tabulate, KEY), nnx.tabulate):
        with pytest.raises(TypeError, match="ShapeDtypeStruct"):
            tabulate(*((Scale(), abstract) if tabulate is nnx.tabulate else (abstract,)))
    with pytest.raises(AttributeError, match="object has no attribute '_nnx_tabulate_id'"):
        Scale()(X)


def test_clone_copies_and_view_shares():
    norm = nnx.BatchNorm(F, use_running_average=False, rngs=nnx.Rngs(0))
    assert nnx.clone(norm).mean is not norm.mean
    view = nnx.view(norm, use_running_average=True)
    assert view.use_running_average
    assert not norm.use_running_average
    assert view.mean is norm.mean


def test_the_leaves_of_a_shared_scope_are_those_of_a_class_that_inherits():
    class Scoped(nn.Module):
        def setup(self):
            self.dense = nn.Dense(F)
            nn.share_scope(self, self.dense)

        def __call__(self, x):
            return self.dense(x)

    class Inheriting(nnx.Linear):
        pass

    leaves = nnx.to_pure_dict(nnx.state(Inheriting(F, F, rngs=nnx.Rngs(0))))
    assert leaves.keys() == Scoped().init(KEY, X)["params"].keys()


def test_paths_of_modules():
    paths = Linen().module_paths(KEY, X).keys()
    assert {"/".join(map(str, path)) for path, _ in nnx.iter_modules(port())} == paths
