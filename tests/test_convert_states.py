"""States as they are in practice go there and back, or are refused in one line that says why."""

import os
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from flax import nnx
from flax.training import train_state
from pair_states import NnxState, assert_same, held, restored, save

from shared import Pair, find_weight_map
from shared.checkpoint.compare import compare
from shared.checkpoint.convert import convert
from shared.checkpoint.options import Options
from shared.errors import InputError
from tests.ports.trained import LORA

ADAM = optax.adam(1e-3)
PARAMS = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}
MOMENTS = {"count": jnp.int32(1), "mu": PARAMS, "nu": PARAMS}
NORMED = {**PARAMS, "norm": {"scale": jnp.ones(2)}}
ONE = jnp.int32(1)
STATS = {"norm": {"mean": jnp.ones(2), "var": jnp.ones(2)}}


class State(train_state.TrainState):
    """Fields as people add them."""

    dropout_rng: Any = None
    ema_params: Any = None
    batch_stats: Any = None
    more: Any = None


def linen(params=PARAMS, **fields):
    state = State.create(apply_fn=None, params=params, tx=ADAM, **fields)
    return state.replace(step=jnp.int32(3))


def dict_of(state, **more):
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state, **more}


class Model(nnx.Module):
    def __init__(self, rate=0.0):
        self.dense = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        if rate:
            self.drop = nnx.Dropout(rate, rngs=nnx.Rngs(dropout=1))


class Stack(nnx.Module):
    """Each layer of the stack has random numbers of its own."""

    def __init__(self):
        @nnx.vmap(in_axes=0, out_axes=0)
        def layers(rngs):
            layer = Model()
            layer.drop = nnx.Dropout(0.1, rngs=rngs)
            return layer

        self.layers = layers(nnx.Rngs(0, dropout=1).split(3))


def port(model=None, **more):
    model = Model() if model is None else model
    state = NnxState(model, nnx.Optimizer(model, ADAM, wrt=nnx.Param))
    for name, value in more.items():
        setattr(state, name, value)
    return nnx.state(state)


def decoding():
    attention = nnx.MultiHeadAttention(2, 4, decode=True, rngs=nnx.Rngs(0))
    attention.init_cache((1, 5, 4))
    return nnx.state(attention)


# What it is: (the state, paths that are in the other one).
CONVERTED = {
    "a typed key": (lambda: linen(dropout_rng=jax.random.key(1)), ["dropout_rng/value"]),
    "a raw key": (lambda: linen(dropout_rng=jax.random.PRNGKey(1)), ["dropout_rng/value"]),
    "a key of rbg": (lambda: linen(dropout_rng=jax.random.key(1, impl="rbg")), []),
    "averages of params": (lambda: linen(ema_params=PARAMS), ["ema_params/dense/kernel/value"]),
    "averages of statistics": (
        lambda: linen(batch_stats=STATS, more=STATS),
        ["model/norm/mean/value", "more/norm/mean/value"],
    ),
    "averages of collections": (
        lambda: linen(NORMED, batch_stats=STATS, more={"batch_stats": STATS}),
        ["model/norm/mean/value", "more/batch_stats/norm/mean/value"],
    ),
    "collections and what is none": (
        lambda: linen(NORMED, more={"batch_stats": STATS, "seen": ONE}),
        ["more/batch_stats/norm/mean/value", "more/seen/value"],
    ),
    "statistics of another model": (
        lambda: linen(more={"batch_stats": STATS}),
        ["more/batch_stats/norm/mean/value"],
    ),
    "metrics": (lambda: linen(more={"loss": jnp.ones(()), "seen": [jnp.int32(1)] * 2}), []),
    "a loop's own optimizer": (
        lambda: linen(more=ADAM.init(PARAMS)),
        ["more/0/mu/dense/bias/value"],
    ),
    "a cache": (
        lambda: {"params": PARAMS, "cache": {"dense": {"cache_index": jnp.int32(1)}}},
        ["dense/cache_index/value"],
    ),
    "what is sown": (
        lambda: {"params": PARAMS, "intermediates": {"dense": {"kernel": (jnp.ones(2),)}}},
        ["linen_aux/intermediates/dense/kernel/0"],
    ),
    "a tuple in a variable": (
        lambda: {"params": PARAMS, "cache": {"dense": {"cached_key": (jnp.ones(2), jnp.ones(1))}}},
        ["dense/cached_key/value/0"],
    ),
    "masks": (
        lambda: port(Model(0.1)),
        ["nnx_aux/model/drop/rngs/count/value", "params/dense/bias"],
    ),
    "masks in a stack": (lambda: port(Stack()), ["nnx_aux/model/layers/drop/rngs/key/value"]),
    "random numbers beside": (lambda: port(rngs=nnx.Rngs(5)), ["rngs/default/key"]),
    "a second model": (lambda: port(ema=Model()), ["ema/dense/kernel", "params/dense/kernel"]),
    "metrics of nnx": (
        lambda: port(metrics=nnx.MultiMetric(loss=nnx.metrics.Average())),
        ["metrics/loss/total"],
    ),
    "a decoder": (decoding, ["cache/cached_key", "params/query/kernel"]),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", CONVERTED)
def test_a_state_goes_there_and_back_with_its_manifest_and_without(name, tmp_path):
    make, expected = CONVERTED[name]
    save(tmp_path / "source", make())
    convert(tmp_path / "source", tmp_path / "there")
    assert {*expected} <= {"/".join(map(str, path)) for path in held(tmp_path / "there")}
    convert(tmp_path / "there", tmp_path / "by manifest")
    assert_same(tmp_path / "by manifest", tmp_path / "source", empty=True)
    os.unlink(tmp_path / "there" / "MANIFEST.json")
    convert(tmp_path / "there", tmp_path / "by rule")
    assert_same(tmp_path / "by rule", tmp_path / "source")


def test_collections_in_a_field_are_those_of_the_model(tmp_path):
    sown = {"dense": {"kernel": (jnp.ones(2),)}}
    save(tmp_path / "source", linen(NORMED, more={"batch_stats": STATS, "intermediates": sown}))
    convert(tmp_path / "source", tmp_path / "there")
    found = {"/".join(map(str, path)) for path in held(tmp_path / "there")}
    assert {"model/norm/mean/value", "model/norm/var/value"} <= found
    assert "linen_aux/more/intermediates/dense/kernel/0" in found
    assert not [path for path in found if path.startswith("more")]
    convert(tmp_path / "there", tmp_path / "by manifest")
    assert_same(tmp_path / "by manifest", tmp_path / "source", empty=True)
    # Of which field they were a manifest alone says.
    os.unlink(tmp_path / "there" / "MANIFEST.json")
    convert(tmp_path / "there", tmp_path / "by rule")
    assert ("batch_stats", "norm", "mean") in held(tmp_path / "by rule")


def test_a_module_may_have_a_model_and_params_of_its_own(tmp_path):
    module = nnx.Module()
    module.model, module.scale = Model(), nnx.Param(jnp.ones(2))
    save(tmp_path / "source", nnx.state(module))
    convert(tmp_path / "source", tmp_path / "there")
    assert {path[:2] for path in held(tmp_path / "there")} == {
        ("params", "model"),
        ("params", "scale"),
    }


@pytest.mark.parametrize("top", ["model", "state"])
def test_what_is_saved_as_it_is_beside_a_state_of_nnx(top, tmp_path):
    optimizer = nnx.state(nnx.Optimizer(Model(), ADAM, wrt=nnx.Param))
    state = {top: nnx.state(Model()), "optimizer": optimizer, "epoch": jnp.int32(3)}
    save(tmp_path / "source", state)
    convert(tmp_path / "source", tmp_path / "there")
    found = {"/".join(map(str, path)) for path in held(tmp_path / "there")}
    assert {"params/dense/kernel", "opt_state/0/mu/dense/kernel", "step", "epoch"} <= found
    convert(tmp_path / "there", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "source", empty=True)


@pytest.mark.parametrize("top", ["optimizer", "opt"])
def test_an_optimizer_of_linen_by_another_name_is_told_by_its_moments(top, tmp_path):
    state = {"params": PARAMS, top: ADAM.init(PARAMS), "step": jnp.int32(1)}
    save(tmp_path / "source", state)
    said = []
    convert(tmp_path / "source", tmp_path / "there", told=said.append)
    assert any(f"`{top}` holds moments of params and is taken for the optimizer" in x for x in said)
    found = {"/".join(map(str, path)) for path in held(tmp_path / "there")}
    assert {"optimizer/opt_state/0/mu/dense/kernel", "optimizer/step"} <= {
        name.removesuffix("/value") for name in found
    }
    convert(tmp_path / "there", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "source", empty=True)


# Modules that are called as what the other API puts there.
NAMED_AS_A_PLACE = {
    "model": lambda: {"params": {"model": PARAMS}},
    "model with statistics": lambda: {
        "params": {"model": PARAMS},
        "batch_stats": {"model": STATS},
    },
    "model and optimizer": lambda: {"params": {"model": PARAMS, "optimizer": PARAMS}},
    "params": lambda: {"params": {"dense": PARAMS["dense"], "params": PARAMS}},
    "a parameter model": lambda: {"params": {"dense": PARAMS["dense"], "model": jnp.ones(2)}},
    "model, trained": lambda: linen({"model": PARAMS}),
    "model, trained, and an array": lambda: dict_of(linen({"model": PARAMS}), model=jnp.ones(2)),
    "another collection of params": lambda: {
        "params": PARAMS,
        "rngs": {"params": jax.random.PRNGKey(0)},
    },
}


@pytest.mark.parametrize("name", NAMED_AS_A_PLACE)
def test_the_manifest_knows_where_the_model_is(name, tmp_path):
    save(tmp_path / "source", NAMED_AS_A_PLACE[name]())
    convert(tmp_path / "source", tmp_path / "there")
    convert(tmp_path / "there", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "source", empty=True)
    found = compare((str(tmp_path / "source"), str(tmp_path / "there")))
    assert found.is_equal, found.rows


class Table(nn.Module):
    """A module without params: by rule its variable is none of the model's."""

    @nn.compact
    def __call__(self):
        return self.variable("tables", "rates", lambda: jnp.ones(2)).value


class WithTable(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="dense")(x * Table(name="table")())


class WithTablePort(nnx.Module):
    def __init__(self, rngs):
        self.table = nnx.Module()
        self.table.rates = nnx.Variable(jnp.ones(2))
        self.dense = nnx.Linear(2, 3, rngs=rngs)

    def __call__(self, x):
        return self.dense(x * self.table.rates)


def test_where_the_model_is_is_not_guessed_where_a_map_had_told(tmp_path):
    inputs = (jax.ShapeDtypeStruct((1, 2), "float32"),)
    weights = find_weight_map(Pair(WithTable(), WithTablePort, inputs))
    save(tmp_path / "source", {"params": PARAMS, "tables": {"table": {"rates": jnp.ones(2)}}})
    convert(tmp_path / "source", tmp_path / "there", Options(weights=weights))
    assert ("table", "rates", "value") in held(tmp_path / "there")
    convert(tmp_path / "there", tmp_path / "back", Options(rename={"dense": "top"}))
    assert ("params", "top", "kernel") in held(tmp_path / "back")


def test_of_one_layer_it_can_be_said_that_it_is_a_list(tmp_path):
    save(tmp_path / "source", {"params": {"layers_0": PARAMS["dense"]}})
    options = Options(rename={"layers_0": "layers/0"})  # as the message says that refuses it
    convert(tmp_path / "source", tmp_path / "there", options)
    assert {path[:2] for path in held(tmp_path / "there")} == {("layers", "0")}
    convert(tmp_path / "there", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "source")


OF_NO_MODEL = {
    "a chain": (
        "linen_to_nnx",
        lambda: {"0": {"mu": PARAMS, "nu": PARAMS, "count": jnp.int32(1)}, "1": PARAMS},
        "holds the state of an optimizer alone (0, 1)",
    ),
    "Adam": (
        "linen_to_nnx",
        lambda: {"mu": PARAMS, "nu": PARAMS, "count": jnp.int32(1)},
        "holds the state of an optimizer alone (count, mu, nu)",
    ),
    "a TrainState": ("nnx_to_linen", linen, "is a TrainState of Linen's"),
    "an optimizer's state that is called one": (
        "nnx_to_linen",
        lambda: {"model": PARAMS, "optimizer": ADAM.init(PARAMS)},
        "optimizer/0/mu/dense/bias is a moment of dense/bias, and no nnx.Optimizer is found beside",
    ),
    "another name beside a model": (
        "linen_to_nnx",
        lambda: {"model": PARAMS, "opt": ADAM.init(PARAMS)},
        "params/opt/0/mu/dense/bias is a moment of dense/bias, and there is no `opt_state`",
    ),
    "an optimizer of NNX in a dict": (
        "auto",
        lambda: {
            "params": PARAMS,
            "opt_state": {"step": jnp.uint32(1), "opt_state": {"0": {"mu": PARAMS}}},
        },
        "`opt_state` is an nnx.Optimizer",
    ),
}


@pytest.mark.parametrize("name", OF_NO_MODEL)
def test_what_a_direction_does_not_make_a_model_is_refused(name, tmp_path):
    direction, make, said = OF_NO_MODEL[name]
    save(tmp_path / "source", make())
    with pytest.raises(InputError) as error:
        convert(tmp_path / "source", tmp_path / "there", Options(direction=direction))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Model, ("params", "layers_0", "dense", "kernel")),
        (lambda: nnx.BatchNorm(2, rngs=nnx.Rngs(0)), ("params", "scale")),
    ],
    ids=["list", "norm"],
)
@pytest.mark.parametrize("form", ["msgpack", "npz"])
def test_a_pure_dict_of_nnx_is_not_taken_for_linens(form, module, expected, tmp_path):
    """Told by a list, or by the mean and the variance of a norm."""
    state = nnx.to_pure_dict(nnx.state(module()))
    tree = state if "mean" in state else {"layers": {"0": state}}
    path = tmp_path / f"model.{form}"
    if form == "msgpack":
        path.write_bytes(flax.serialization.msgpack_serialize(jax.tree.map(np.asarray, tree)))
    else:
        np.savez(path, **flax.traverse_util.flatten_dict(jax.tree.map(np.asarray, tree), sep="/"))
    with pytest.raises(InputError, match="say what it is with --direction"):
        convert(path, tmp_path / "there")
    convert(path, tmp_path / "there", Options(direction="nnx_to_linen"))
    assert expected in held(tmp_path / "there")


def gan(*optimizers):
    state = nnx.Module()
    state.generator, state.discriminator = Model(), Model()
    models = [state.generator, state.discriminator, nnx.List([state.generator])]
    for name, model in zip(optimizers, models, strict=False):
        setattr(state, name, nnx.Optimizer(model, ADAM, wrt=nnx.Param))
    return nnx.state(state)


def lora():
    model = Model()
    model.lora = nnx.LoRAParam(jnp.ones(2))
    return nnx.state(NnxState(model, nnx.Optimizer(model, ADAM, wrt=nnx.LoRAParam)))


def split():
    _, params, rest = nnx.split(Model(0.1), nnx.Param, ...)
    return {"params": params, "rest": rest}


# What it is: (the state, what is said).
REFUSED = {
    "two states": (
        lambda: {"generator": linen(), "discriminator": linen()},
        "holds 2 states of training, discriminator, generator, and one is converted at a time",
    ),
    "two optimizers": (lambda: gan("g", "d"), "holds 2 optimizers, d, g, and one model with its"),
    "one of two models": (lambda: gan("optimizer"), "which of discriminator, generator is the mod"),
    "params that are not trained": (lora, "none of dense/bias, dense/kernel: are they params that"),
    "a state in two parts": (
        split,
        "saved as `params`; say which with --direction, or give --pair",
    ),
    "moments without params": (
        lambda: {"opt_state": ADAM.init(PARAMS), "step": jnp.int32(1), "target": PARAMS},
        "neither Linen's (no `params`) nor a saved nnx.State",
    ),
    "another optimizer of a list": (
        lambda: {
            "params": {"gan": {"layers_0": PARAMS, "layers_1": PARAMS}},
            "opt_state": ADAM.init({"gan": {"layers_0": PARAMS, "layers_1": PARAMS}}),
            "step": jnp.int32(1),
            "more": ADAM.init({"layers_0": PARAMS, "layers_1": PARAMS}),
        },
        "more/0/mu/layers_0/dense/bias may be of params/gan/layers_",
    ),
    "a model beside an epoch": (
        lambda: {"model": nnx.state(Model()), "epoch": jnp.int32(3)},
        "model/dense/bias/value may be dense/bias of a model that was saved as `model`, or of a",
    ),
    "a module that is named as a param": (
        lambda: {"params": {"dense": {"kernel": jnp.ones(2)}, "scale": {"value": jnp.ones(2)}}},
        "params/scale/value may be a param scale in a box of nn.Partitioned, or a param `value`",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_in_one_line(name, tmp_path):
    make, said = REFUSED[name]
    save(tmp_path / "source", make())
    with pytest.raises(InputError) as error:
        convert(tmp_path / "source", tmp_path / "there")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["source"]


def test_a_state_below_one_name_is_read_as_flax_guide_saves_it(tmp_path):
    saved = {"model": linen(), "config": {"sizes": np.array([2, 3])}, "data": [jnp.ones(2)]}
    save(tmp_path / "source", saved)
    convert(tmp_path / "source", tmp_path / "there")
    made = held(tmp_path / "there")
    assert ("model", "dense", "kernel", "value") in made
    assert ("optimizer", "opt_state", "0", "mu", "dense", "kernel", "value") in made
    assert ("config", "sizes", "value") in made
    convert(tmp_path / "there", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "source", empty=True)


def test_params_in_boxes_come_out_of_them_by_rule(tmp_path):
    box = flax.core.meta.Partitioned(jnp.ones((2, 3)), names=("in", "out"))
    params = {"dense": {"kernel": box, "value": jnp.zeros(3)}}
    state = train_state.TrainState.create(apply_fn=None, params=params, tx=ADAM)
    save(tmp_path / "source", state)
    convert(tmp_path / "source", tmp_path / "there")
    made = held(tmp_path / "there")
    for above in (("model",), ("optimizer", "opt_state", "0", "mu")):
        assert (*above, "dense", "kernel", "value") in made
        assert (*above, "dense", "value", "value") in made
    convert(tmp_path / "there", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "source", empty=True)


def test_an_optimizer_of_some_variables_alone_goes_there_and_back_with_a_map(tmp_path):
    weights = find_weight_map(LORA)
    model = LORA.nnx(nnx.Rngs(0))
    state = NnxState(model, nnx.Optimizer(model, ADAM, wrt=nnx.LoRAParam))
    save(tmp_path / "source", nnx.state(state))
    convert(tmp_path / "source", tmp_path / "there", Options(weights=weights))
    made = {path for path in held(tmp_path / "there") if "mu" in path}
    assert made == {("opt_state", 0, "mu", name) for name in ("lora_a", "lora_b")}
    os.unlink(tmp_path / "there" / "MANIFEST.json")
    convert(tmp_path / "there", tmp_path / "back", Options(weights=weights))
    assert_same(tmp_path / "back", tmp_path / "source")


def test_what_the_other_side_does_not_keep_is_said_and_the_rest_restores(tmp_path):
    model = Model(0.1)
    state = NnxState(model, nnx.Optimizer(model, ADAM, wrt=nnx.Param))
    save(tmp_path / "linen", linen())
    said = []
    given = Options(random=("drop/rngs/count", "drop/rngs/key"))
    convert(tmp_path / "linen", tmp_path / "nnx", given, said.append)
    assert "drop/rngs/count): restore nnx.state(module, nnx.Not(nnx.RngState))" in said[-1]
    target = nnx.state(state, nnx.Not(nnx.RngState))
    nnx.update(state, restored(tmp_path / "nnx", jax.eval_shape(lambda: target)))
    np.testing.assert_array_equal(state.model.dense.kernel[...], PARAMS["dense"]["kernel"])

    save(tmp_path / "masks", nnx.state(state))
    convert(tmp_path / "masks", tmp_path / "back", Options(), said.append)
    assert "`nnx_aux` holds 2 leaves that the other API has no place for" in said[-2]
    assert "of what optax keeps empty, and a TrainState has a place for it: --pair" in said[-1]
    wanted = {"step": jnp.int32(0), "params": PARAMS}
    args = ocp.args.PyTreeRestore(
        wanted, ocp.checkpoint_utils.construct_restore_args(wanted), partial_restore=True
    )
    found = ocp.PyTreeCheckpointer().restore(tmp_path / "back", args=args)
    np.testing.assert_array_equal(found["params"]["dense"]["kernel"], jnp.ones((2, 3)))
