"""With a pair, what is written is what the other API saves, whatever is laid out otherwise."""

import dataclasses
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from pair_states import (
    States,
    assert_same,
    held,
    linen_state,
    nnx_state,
    restored,
    save,
    save_managed,
    variables_of,
)
from pairs_to_convert import FUSED, ROWS, STACK, F
from stored_trees import OPTIMIZERS, InMemory, stored

from shared import Options, Pair, convert, options_of_pair
from shared.checkpoint.convert import planned
from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.planning.making import Making
from shared.checkpoint.planning.of_pair import opt_state_of
from shared.checkpoint.planning.plan import plan_of
from shared.checkpoint.tree.recognised import roles_of
from shared.errors import InputError

PAIRS = {"stack": STACK, "fused": FUSED}
OPTIMIZER = OPTIMIZERS["clipped adamw"]
COLLECTIONS = ("params", "tables", "carry")
APIS = ("linen", "nnx")
OTHER = {"linen": "nnx", "nnx": "linen"}

each_pair = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xdist_group(f"to convert {name}")) for name in PAIRS],
)
each_api = pytest.mark.parametrize("api", APIS)


@functools.cache
def options(name, optimizer="clipped adamw"):
    return options_of_pair(dataclasses.replace(PAIRS[name], optimizer=OPTIMIZERS[optimizer]))


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """(the states of a pair after three steps, the folder where each is saved)."""

    @functools.cache
    def of(name):
        both = States(PAIRS[name], OPTIMIZER)
        folder = tmp_path_factory.mktemp(name)
        save(folder / "linen", both.linen)
        save(folder / "nnx", nnx.state(both.nnx))
        return both, folder

    return of


@pytest.mark.in_turn
@each_api
@each_pair
def test_what_is_written_is_what_the_other_api_saves_after_the_same_steps(
    name, api, states, tmp_path
):
    both, folder = states(name)
    convert(folder / api, tmp_path / "made", options(name))
    assert_same(tmp_path / "made", folder / OTHER[api], empty=True)
    target = {"linen": lambda: both.linen, "nnx": lambda: nnx.state(both.nnx)}[OTHER[api]]
    found = restored(tmp_path / "made", jax.eval_shape(target))
    jax.tree.map(np.testing.assert_array_equal, found, target())


@each_api
@each_pair
@pytest.mark.parametrize("way", ["manifest", "pair", "manifest and pair"])
def test_there_and_back_is_the_same(name, api, way, states, tmp_path):
    _, folder = states(name)
    convert(folder / api, tmp_path / "there", options(name))
    if way == "pair":
        os.unlink(tmp_path / "there" / "MANIFEST.json")
    given = Options() if way == "manifest" else options(name)
    back = convert(tmp_path / "there", tmp_path / "back", given)
    assert back.by == ("weight map" if way == "pair" else "manifest")
    assert_same(tmp_path / "back", folder / api, empty=True)


@each_pair
def test_a_step_of_a_manager_goes_there_and_back(name, states, tmp_path):
    both, folder = states(name)
    save_managed(tmp_path / "steps", both.linen, 3)
    convert(tmp_path / "steps", tmp_path / "there", options(name))
    assert_same(tmp_path / "there", folder / "nnx")
    convert(tmp_path / "there", tmp_path / "back", options(name))
    assert sorted(os.listdir(tmp_path / "back")) == ["3"]
    assert_same(tmp_path / "back", folder / "linen", empty=True)


def moved(tree, name, optimizer):
    """What is written of a state, and the leaves of it."""
    arrays, leaves = stored(tree)
    given = options(name, optimizer)
    roles = roles_of(leaves, "memory", None, given.weights)
    plan = plan_of(roles, leaves, given.weights, "value", "memory", given.opt_state)
    making = Making(plan, InMemory(arrays, leaves), None)
    made = {path: making.read(path) for path, each in plan.items() if each.pieces}
    return made, {path: each.leaf for path, each in plan.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@each_pair
def test_the_state_of_any_optimizer_is_that_of_the_other_api(name, optimizer):
    both = States(PAIRS[name], OPTIMIZERS[optimizer], steps=2)
    trees = {"linen": both.linen, "nnx": nnx.state(both.nnx)}
    for api in APIS:
        if optimizer == "adafactor":  # its moments depend on how the params are laid out
            with pytest.raises(InputError, match=r"its param \(.*keep the layout"):
                moved(trees[api], name, optimizer)
            continue
        (arrays, leaves), (expected, others) = (
            moved(trees[api], name, optimizer),
            stored(trees[OTHER[api]]),
        )
        assert leaves == others
        assert arrays.keys() == expected.keys()
        for path, array in arrays.items():
            np.testing.assert_array_equal(array, expected[path], strict=True, err_msg=str(path))


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "adafactor"])
def test_what_the_optimizer_keeps_nothing_of_is_there_for_linen_to_restore(optimizer):
    pair = dataclasses.replace(FUSED, optimizer=OPTIMIZERS[optimizer])
    weights, opt_state = (
        options("fused").weights,
        opt_state_of(pair, options("fused").weights.linen),
    )
    variables = variables_of(weights)
    expected = stored(linen_state(pair.linen, variables, pair.optimizer))[1]
    port = nnx_state(pair.nnx, weights.to_pure_dict(variables), pair.optimizer)
    _, leaves = stored(nnx.state(port))
    roles = roles_of(leaves, "memory", None, weights)
    made = plan_of(roles, leaves, weights, "value", "memory", opt_state)
    assert {path: each.leaf for path, each in made.items()} == expected


def test_another_optimizer_than_that_of_the_checkpoint_is_refused(states):
    _, folder = states("fused")
    given = dataclasses.replace(options("fused"), opt_state=options("fused", "momentum").opt_state)
    with pytest.raises(InputError, match=r"Pair\.optimizer has opt_state/0/trace/key/bias and "):
        planned(folder / "nnx", given)
    planned(folder / "linen", given)  # what NNX stores is all there


def test_a_model_that_is_saved_alone_needs_no_optimizer(states, tmp_path):
    both, folder = states("fused")
    save(tmp_path / "model", nnx.state(both.nnx.model))
    convert(tmp_path / "model", tmp_path / "made", options("fused"))
    expected = {p: each for p, each in held(folder / "linen").items() if p[0] in COLLECTIONS}
    assert held(tmp_path / "made").keys() == expected.keys()
    for path, (_, array) in held(tmp_path / "made").items():
        np.testing.assert_array_equal(array, expected[path][1], strict=True)
    save(tmp_path / "as model", {"model": nnx.state(both.nnx.model)})
    convert(tmp_path / "as model", tmp_path / "again", options("fused"))
    assert_same(tmp_path / "again", tmp_path / "made")


def test_params_below_params_as_maxtext_saves_them(states, tmp_path):
    both, folder = states("stack")
    state, nested = both.linen, lambda tree: {"params": tree}
    inner = [
        each._replace(mu=nested(each.mu), nu=nested(each.nu)) if hasattr(each, "mu") else each
        for each in state.opt_state[1]
    ]
    saved = state.replace(params=nested(state.params), opt_state=(state.opt_state[0], inner))
    save(tmp_path / "source", saved)
    convert(tmp_path / "source", tmp_path / "made", options("stack"))
    assert_same(tmp_path / "made", folder / "nnx")
    convert(tmp_path / "made", tmp_path / "back", options("stack"))
    assert_same(tmp_path / "back", tmp_path / "source", empty=True)


class Named(nn.Module):
    """The axes of weights have names: Linen keeps such weights in boxes."""

    @nn.compact
    def __call__(self, x):
        init = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
        x = nn.Dense(F, kernel_init=init, name="dense")(x)
        return x * self.param("gain", nn.with_partitioning(nn.initializers.ones, ("out",)), (F,))


class NamedPort(nnx.Module):
    def __init__(self, rngs):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("in", "out"))
        self.dense = nnx.Linear(F, F, kernel_init=init, rngs=rngs)
        self.gain = nnx.Param(jnp.ones(F), out_sharding=(None,), eager_sharding=False)

    def __call__(self, x):
        return self.dense(x) * self.gain[...]


def test_params_in_boxes_come_out_of_them_and_the_names_of_their_axes_are_kept(tmp_path):
    given = options_of_pair(Pair(Named(), NamedPort, ROWS, optimizer=OPTIMIZER))
    state = linen_state(Named(), Named().init(jax.random.key(0), jnp.ones((1, F))), OPTIMIZER)
    save(tmp_path / "linen", state)
    assert ("params", "gain", "value") in held(tmp_path / "linen")
    convert(tmp_path / "linen", tmp_path / "nnx", given)
    assert ("model", "gain", "value") in held(tmp_path / "nnx")
    assert ("optimizer", "opt_state", "1", "0", "mu", "gain", "value") in held(tmp_path / "nnx")
    names = Manifest.load(str(tmp_path / "nnx")).extra["axis_names"]
    assert names == {"model/dense/kernel/value": ["in", "out"], "model/gain/value": [None]}
    convert(tmp_path / "nnx", tmp_path / "back", given)
    assert_same(tmp_path / "back", tmp_path / "linen", empty=True)
    names = Manifest.load(str(tmp_path / "back")).extra["axis_names"]
    assert names == {"params/dense/kernel/value": ["in", "out"], "params/gain/value": ["out"]}


def test_of_a_pair_that_differs_nothing_is_converted():
    pair = dataclasses.replace(FUSED, linen=nn.Dense(F))
    with pytest.raises(InputError, match="models of the pair differ: no counterpart for"):
        options_of_pair(pair)
