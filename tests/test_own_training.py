"""`verify` steps with a pair's own optimizer and step: right ones pass, mistakes are named.

Each kind of mistake has a right neighbour: written in the same way, without the mistake.
"""

import dataclasses

import jax
import optax
import optax.contrib
import pytest
from flax import nnx

from shared import verify
from shared.errors import InputError, where_raised
from shared.report.result import PASSES, DifferentError
from tests.ports import trained
from tests.ports.trained import GIVEN, LORA, PLAIN, STEPS, adamw, loss_of


def with_(pair, **fields):
    return dataclasses.replace(pair, **fields)


def checked(pair):
    """(what is found of a pair, its check of training)."""
    found = verify(pair, checks=("training",), samples=1)
    (check,) = (check for check in found.checks if check.name == "training")
    return found, check


def by_axes(params):
    """Norms and biases have one axis, but where layers are stacked."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def ahead(step):
    return trained.SCHEDULE(step + 1)


def called_twice(model, optimizer, x, labels):
    value, grads = nnx.value_and_grad(lambda model: loss_of(model(x), labels))(model)
    optimizer.update(model, grads)
    optimizer.update(model, grads)
    return value


def functional(*kept):
    """A step that keeps `kept` of what the call changes."""

    def step(model, optimizer, x, labels):
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params):
            merged = nnx.merge(graphdef, params, rest, copy=True)
            return loss_of(merged(x), labels), [nnx.state(merged, kind) for kind in kept]

        (value, states), grads = jax.value_and_grad(loss, has_aux=True)(params)
        for state in states:
            nnx.update(model, state)
        optimizer.update(model, grads)
        return value

    return step


def linen_key_not_folded(state, x, labels):
    new, value = trained.linen_step(state.replace(step=0), x, labels)
    return new.replace(step=state.step + 1), value


def linen_statistics_lost(state, x, labels):
    new, value = trained.linen_step(state, x, labels)
    return new.replace(batch_stats=state.batch_stats), value


def not_applied(model, optimizer, x, labels):
    copy = nnx.clone(model)
    value = trained.nnx_step(copy, optimizer, x, labels)
    nnx.update(model, nnx.state(copy, (nnx.BatchStat, nnx.RngState)))
    return value


def sharded(reduce):
    """A step on four shards of the batch, whose gradients `reduce` brings together."""

    def step(model, optimizer, x, labels):
        graphdef, params = nnx.split(model)

        def shard(x, labels):
            def loss(params):
                return loss_of(nnx.merge(graphdef, params, copy=True)(x), labels)

            value, grads = jax.value_and_grad(loss)(params)
            return jax.lax.pmean(value, "device"), reduce(grads)

        shards = [x.reshape(4, 2, *x.shape[1:]) for x in (x, labels)]
        value, grads = jax.vmap(shard, axis_name="device", out_axes=None)(*shards)
        optimizer.update(model, grads)
        return value

    return step


def mean(grads):
    return jax.lax.pmean(grads, "device")


def mean_of_means(grads):
    return jax.tree.map(lambda g: g / 4, mean(grads))


def total(grads):
    return jax.lax.psum(grads, "device")


FUNCTIONAL = functional(nnx.BatchStat, nnx.RngState)
SLOW = pytest.mark.thorough
SGD = optax.sgd(1e-2)
TRUST = optax.chain(SGD, optax.scale_by_trust_ratio())
MULTI = optax.MultiSteps(optax.adam(1e-2), 2)

RIGHT = [
    pytest.param(with_(STEPS, nnx_step=FUNCTIONAL), id="functional step"),
    pytest.param(with_(GIVEN, nnx_optimizer=adamw(mask=by_axes)), id="mask of layers in a list"),
    pytest.param(with_(PLAIN, nnx_step=sharded(mean)), id="mean over shards"),
    pytest.param(LORA, id="low rank"),
    pytest.param(STEPS, id="plain step", marks=SLOW),
    pytest.param(with_(PLAIN, optimizer=MULTI), id="several steps in one", marks=SLOW),
    pytest.param(
        with_(GIVEN, optimizer=optax.contrib.schedule_free_adamw(1e-2)),
        id="weights that an optimizer keeps",
    ),
    pytest.param(
        with_(GIVEN, optimizer=optax.masked(optax.adam(1e-2), trained.is_decayed)),
        id="moments of some",
        marks=SLOW,
    ),
]


@pytest.mark.parametrize("pair", RIGHT)
def test_what_is_trained_alike_passes(pair):
    found, check = checked(pair)
    assert found.verdict in PASSES, check
    assert check.status in PASSES
    assert check.note.startswith("5 steps of")


def test_one_program_for_both_is_bitwise_equal():
    assert checked(PLAIN)[1].status == "equal"


NORM, BASE = "params/layers/0/norm/", "params/lora/base_module/kernel"
DECAYED = "is decayed in Linen only, by 5e-05 of the weight"
TWICE = "called once in Linen, 2 times in NNX"
STALE = "as before the step in"
SAME = "draws what it drew in step 1"

# (kind, pair, step, how the leaf starts, what is said of the cause).
MISTAKES = [
    ("decay", with_(PLAIN, nnx_optimizer=adamw(mask=None)), 2, "params/", "decayed in NNX only"),
    ("decay", with_(GIVEN, nnx_optimizer=adamw(decay=2e-2)), 2, "params/", "in Linen, 0.0001 in"),
    ("schedule", with_(PLAIN, nnx_optimizer=adamw(ahead)), 1, "params/", "that of Linen's step 2"),
    ("schedule", with_(PLAIN, nnx_step=called_twice), 1, "optimizer", TWICE),
    ("schedule", with_(PLAIN, nnx_optimizer=adamw(1e-2)), 1, "params/", "is moved in NNX only"),
    ("mean", with_(PLAIN, nnx_step=sharded(mean_of_means)), 1, "params/", "is 0.25 times that of"),
    ("mean", with_(PLAIN, nnx_step=sharded(total)), 1, "params/", "is 4 times that of Linen on"),
    ("key", with_(STEPS, nnx_step=functional(nnx.BatchStat)), 2, "draws", f"NNX {SAME}"),
    ("key", with_(STEPS, linen_step=linen_key_not_folded), 2, "draws", f"Linen {SAME}"),
    ("statistics", with_(STEPS, nnx_step=functional(nnx.RngState)), 1, "batch_", f"{STALE} NNX"),
    ("statistics", with_(STEPS, linen_step=linen_statistics_lost), 1, "batch_", f"{STALE} Linen"),
    ("filter", with_(LORA, wrt=nnx.Param), 1, BASE, "is moved in NNX only"),
    ("filter", with_(LORA, optimizer=optax.adam(1e-2)), 1, BASE, "is trained in Linen only"),
    ("size", with_(PLAIN, optimizer=SGD, nnx_optimizer=TRUST), 1, "params/", "size in NNX only"),
    ("applied", with_(PLAIN, nnx_step=not_applied), 2, "params/", f"{STALE} NNX"),
]


def rows():
    """The first of each kind is run, the others with --thorough."""
    kinds = set()
    for i, row in enumerate(MISTAKES):
        marks = SLOW if row[0] in kinds else ()
        kinds.add(row[0])
        yield pytest.param(*row[1:], id=f"{row[0]} {i}", marks=marks)


@pytest.mark.parametrize(("pair", "step", "leaf", "cause"), rows())
def test_a_mistake_is_named_with_step_and_leaf(pair, step, leaf, cause):
    found, check = checked(pair)
    assert (found.verdict, check.status) == ("different", "different"), check
    assert check.note.startswith(f"step {step}, {leaf}"), check.note
    assert cause in check.note
    assert check.worst_leaf.startswith(leaf)
    with pytest.raises(DifferentError, match=f"equal but for training: step {step}, "):
        found.raise_if_different()


def test_a_mask_by_the_number_of_axes_decays_the_norms_of_a_stack():
    _, check = checked(with_(GIVEN, optimizer=adamw(mask=by_axes), nnx_optimizer=adamw()))
    assert check.note.startswith(f"step 2, {NORM}")
    assert DECAYED in check.note


def test_a_norm_of_a_leaf_is_that_of_all_layers_of_a_stack():
    _, check = checked(with_(GIVEN, optimizer=optax.lamb(1e-2)))
    assert check.note.startswith("step 1, params/layers/")
    assert "of Linen is a stack: what an optimizer makes of a whole leaf" in check.note


def test_a_mask_by_the_last_key_of_a_path_is_an_error_in_nnx():
    def by_last_key(params):
        def is_kernel(path, _):
            return path[-1].key == "kernel"

        return jax.tree_util.tree_map_with_path(is_kernel, params)

    with pytest.raises(AttributeError, match="object has no attribute 'key'") as raised:
        verify(with_(PLAIN, optimizer=adamw(mask=by_last_key)), checks=("training",), samples=1)
    assert where_raised(raised.value) == "Pair.optimizer, in nnx.Optimizer"


def test_what_was_equal_where_they_part_is_said():
    _, check = checked(with_(PLAIN, nnx_step=sharded(mean_of_means)))
    assert check.note.endswith("on all 6 leaves; loss equal there")


def test_a_state_that_fits_no_map_is_not_compared_and_said():
    found, check = checked(with_(PLAIN, optimizer=optax.adafactor(1e-2)))
    assert found.verdict in PASSES
    assert "not compared of the optimizers' states: 0.v_col.first.bias" in check.note


def own_key(model, optimizer, x, labels):
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), optimizer.step[...]), x.shape)
    return trained.nnx_step(model, optimizer, x + 0 * noise, labels)


def test_draws_of_keys_that_a_step_makes_are_said_not_to_be_compared():
    found, check = checked(with_(PLAIN, nnx_step=own_key))
    assert (found.verdict, check.status) == ("undecided", "undecided")
    assert "NNX draws of a key that its step makes by itself" in found.remark


def raises(state, x, labels):
    return state, state.params["frist"]


BAD = {
    "received the function adam": {"optimizer": optax.adam},
    "received str": {"nnx_optimizer": "adam"},
    "give the steps of both sides": {"nnx_step": None},
    "Pair.optimizer: nnx_optimizer needs it": {"optimizer": None, "nnx_optimizer": optax.adam(1)},
    "step_inputs is for the steps": {"linen_step": None, "nnx_step": None},
    r"return \(state, loss\), it returns tuple of dict": {
        "linen_step": lambda state, x, labels: ({}, 0.0)
    },
    "return the loss, it returns None": {"nnx_step": lambda model, optimizer, x, labels: None},
    "it returns a, linen_step returns loss": {
        "nnx_step": lambda *given: {"a": trained.nnx_step(*given)}
    },
    "does not call the optimizer": {"linen_step": lambda state, x, labels: (state, 0.0)},
    "return a TrainState, it returns dict": {"linen_state": lambda variables, tx: {}},
}


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_used_is_one_line(said):
    with pytest.raises(InputError, match=said):
        verify(with_(PLAIN, **BAD[said]), checks=("training",), samples=1)


def test_what_a_step_raises_says_in_which():
    with pytest.raises(KeyError) as raised:
        verify(with_(PLAIN, linen_step=raises), checks=("training",), samples=1)
    assert where_raised(raised.value) == "Pair.linen_step"
