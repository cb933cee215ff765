"""What a call leaves on one side alone is named with its line, unless the outputs hold it."""

import pathlib

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES

D = 4
X = (jax.ShapeDtypeStruct((3, D), "float32"),)
CHECKS = ("programs", "forward", "updates")


class Body(nn.Module):
    """Sows a loss in a collection, how `options` say."""

    options: tuple = ()
    is_quiet: bool = False

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(D)(x))
        loss = jnp.mean(h**2)
        if not (self.is_quiet and self.is_initializing()):
            self.sow("losses", "size", loss, **dict(self.options))
        return nn.Dense(D, name="out")(h)


class Loss(nnx.Intermediate):
    pass


class Port(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(D, D, rngs=rngs)
        self.out = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.first(x))
        self.sow(Loss, "size", jnp.mean(h**2))
        return self.out(h)


class Silent(Port):
    def __call__(self, x):
        h = nnx.relu(self.first(x))
        y = self.out(h)
        return y


def linen_loss(module, x):
    y = module(x)
    losses = module.variables.get("losses", {})
    return jnp.mean(y**2) + sum(map(jnp.sum, jax.tree.leaves(losses)))


def linen_loss_by_name(module, x):
    y = module(x)
    return jnp.mean(y**2) + jnp.sum(jnp.asarray(module.variables["losses"]["size"]))


def popped(model, x):
    y = model(x)
    losses = nnx.pop(model, Loss)
    return jnp.mean(y**2) + sum(map(jnp.sum, jax.tree.leaves(losses)))


def popped_too_late(model, x):
    y = model(x)
    nnx.pop(model, nnx.Intermediate)
    losses = nnx.pop(model, Loss)
    return jnp.mean(y**2) + sum(map(jnp.sum, jax.tree.leaves(losses)))


SUM = (("reduce_fn", jnp.add), ("init_fn", lambda: 0.0))


def linen_loss_as_it_is(module, x):
    y = module(x)
    return jnp.mean(y**2) + jnp.sum(
        jnp.stack(jax.tree.leaves(module.get_variable("losses", "size")))
    )


@pytest.mark.parametrize("options", [(), SUM], ids=["tuple", "sum"])
@pytest.mark.parametrize(
    ("is_quiet", "linen_call"),
    [
        (False, linen_loss),
        (False, linen_loss_by_name),
        (False, linen_loss_as_it_is),
        (True, linen_loss),
    ],
    ids=["sown in init", "used by its name", "nothing without it", "sown in the call alone"],
)
def test_what_the_call_sows_and_uses_is_no_weight_and_need_not_be_returned(
    options, is_quiet, linen_call
):
    body = Body(options, is_quiet)
    pair = Pair(body, lambda rngs: Port(rngs), X, linen_call=linen_call, nnx_call=popped)
    found = verify(pair, CHECKS, samples=1)
    assert (found.verdict in PASSES, found.unmatched_linen) == (True, [])
    late = Pair(body, lambda rngs: Port(rngs), X, linen_call=linen_call, nnx_call=popped_too_late)
    found = verify(late, CHECKS, samples=1)
    assert (found.verdict, found.unmatched_linen) == ("different", [])
    assert "jnp.mean(y**2)" in found.divergence.nnx.source


def test_a_variable_that_the_call_uses_stays_a_weight():
    class Memory(nn.Module):
        @nn.compact
        def __call__(self, x):
            memory = self.variable("memory", "last", lambda: jnp.ones(D))
            y = x * memory.value
            memory.value = y[0]
            return nn.Dense(D)(y)

    class MemoryPort(nnx.Module):
        def __init__(self, rngs):
            self.last = nnx.Variable(jnp.ones(D))
            self.out = nnx.Linear(D, D, rngs=rngs)

        def __call__(self, x):
            y = x * self.last[...]
            self.last[...] = y[0]
            return self.out(y)

    found = verify(Pair(Memory(), lambda rngs: MemoryPort(rngs), X), CHECKS, samples=1)
    assert found.verdict in PASSES
    assert ("memory/last", "Variable/last") in [(row["linen"], row["nnx"]) for row in found.rows]


def test_a_loss_that_nnx_does_not_sow_is_named_on_both_sides():
    found = verify(Pair(Body(), lambda rngs: Silent(rngs), X), CHECKS, samples=1)
    assert found.verdict == "different"
    line = 'self.sow("losses", "size", loss, **dict(self.options))'
    assert found.remark.startswith("only Linen sows losses/size/0 (")
    assert found.remark.endswith(f": {line})")
    assert found.divergence.linen.source == line
    assert found.divergence.nnx.source == "h = nnx.relu(self.first(x))"


def test_a_loss_that_is_lost_beside_one_that_is_used_is_named():
    class Both(Body):
        @nn.compact
        def __call__(self, x):
            y = super().__call__(x)
            self.sow("losses", "bound", jnp.max(y))
            return y

    def one_of_them(module, x):
        y = module(x)
        return jnp.mean(y**2) + jnp.sum(jnp.asarray(module.variables["losses"]["size"]))

    pair = Pair(Both(), lambda rngs: Port(rngs), X, linen_call=one_of_them, nnx_call=popped)
    found = verify(pair, CHECKS, samples=1)
    assert found.verdict == "different"
    assert found.remark.startswith("only Linen sows losses/bound/0 (")
    assert found.divergence.nnx.source == "return self.out(h)"


def test_an_input_that_is_sown_is_named_where_it_is_sown():
    class Given(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.sow("losses", "given", x)
            return nn.Dense(D, name="out")(nn.relu(nn.Dense(D)(x)))

    found = verify(Pair(Given(), lambda rngs: Silent(rngs), X), CHECKS, samples=1)
    assert found.verdict == "different"
    assert found.divergence.linen.source == 'self.sow("losses", "given", x)'
    assert found.divergence.nnx.source == "h = nnx.relu(self.first(x))"


class Looked(nn.Module):
    """Sows to be looked at, in a scan."""

    @nn.compact
    def __call__(self, x):
        def layer(module, x):
            h = nn.tanh(nn.Dense(D, name="dense")(x))
            module.sow("intermediates", "hidden", h)
            return h, None

        axes = {"params": 0, "intermediates": 0}
        scan = nn.scan(layer, variable_axes=axes, split_rngs={"params": True}, length=2)
        return scan(self, x)[0]


class LookedPort(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(D, D, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


def test_what_linen_alone_sows_to_be_looked_at_is_a_remark():
    found = verify(Pair(Looked(), lambda rngs: LookedPort(rngs), X), CHECKS, samples=1)
    assert found.verdict in PASSES
    assert found.remark.startswith("only Linen sows intermediates/hidden/0 (")
    assert found.remark.endswith(': module.sow("intermediates", "hidden", h))')


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (D, D))
        unit = kernel / jnp.linalg.norm(kernel)
        return x @ unit


class Overwrites(nnx.Module):
    def __init__(self, rngs):
        self.kernel = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (D, D)))

    def __call__(self, x):
        unit = self.kernel[...] / jnp.linalg.norm(self.kernel[...])
        self.kernel[...] = unit
        return x @ unit


class Sets(Overwrites):
    def __call__(self, x):
        unit = self.kernel[...] / jnp.linalg.norm(self.kernel[...])
        self.kernel.set_value(unit)
        return x @ unit


class Keeps(Overwrites):
    def __call__(self, x):
        unit = self.kernel[...] / jnp.linalg.norm(self.kernel[...])
        return x @ unit


def test_the_statement_that_overwrites_a_weight_is_named():
    for port, line in (
        (Overwrites, "self.kernel[...] = unit"),
        (Sets, "self.kernel.set_value(unit)"),
    ):
        pair = Pair(Plain(), lambda rngs, port=port: port(rngs), X)
        found = verify(pair, CHECKS, samples=1)
        assert found.verdict == "different"
        assert found.remark == "NNX changes weights in the call: params/kernel"
        assert found.divergence.nnx.source == line
        assert found.divergence.linen.source == "unit = kernel / jnp.linalg.norm(kernel)"
    kept = verify(Pair(Plain(), lambda rngs: Keeps(rngs), X), CHECKS, samples=1)
    assert (kept.verdict in PASSES, kept.remark) == (True, "")


def test_an_overwritten_weight_in_a_layer_of_flax_is_named_where_that_is_called():
    class Critic(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(D)(x))
            return nn.SpectralNorm(nn.Dense(D))(x, update_stats=True)

    class CriticPort(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(D, D, rngs=rngs)
            self.second = nnx.SpectralNorm(nnx.Linear(D, D, rngs=rngs), rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.first(x))
            return self.second(x, update_stats=True)

    found = verify(Pair(Critic(), lambda rngs: CriticPort(rngs), X), ("updates",), samples=1)
    assert found.verdict == "different"
    assert found.divergence.nnx.source == "return self.second(x, update_stats=True)"


class Perturbed(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = self.perturb("hidden", nn.Dense(D)(x))
        return nn.tanh(h)


class Unperturbed(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        return nnx.tanh(self.dense(x))


class PerturbedPort(Unperturbed):
    def __call__(self, x):
        return nnx.tanh(self.perturb("hidden", self.dense(x)))


@pytest.mark.filterwarnings("ignore:\\s*Using 'Module.perturb:DeprecationWarning")
def test_a_port_need_not_perturb_what_its_model_does():
    found = verify(Pair(Perturbed(), Unperturbed, X), checks=CHECKS)
    assert found.verdict == "equal"
    assert found.remark.startswith("only Linen returns perturbations/hidden (")
    assert verify(Pair(Perturbed(), PerturbedPort, X), checks=CHECKS).verdict == "identical"


def test_a_file_below_the_working_directory_is_named_from_there(monkeypatch):
    monkeypatch.chdir(pathlib.Path(__file__).parent)
    found = verify(Pair(Perturbed(), Unperturbed, X), checks=CHECKS)
    assert "(test_left_behind.py:" in found.remark
