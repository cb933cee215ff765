"""Training steps in both APIs, right ones and such with a mistake in each part of the step."""

import dataclasses
from typing import Any

import jax
import optax
import optax.contrib
import pytest
from flax import nnx
from flax.training import train_state

from tests.ports import trained
from tests.ports.trained import GIVEN, LORA, PLAIN, STEPS, adamw, loss_of


def with_(pair, **fields):
    return dataclasses.replace(pair, **fields)


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


def reversed_batch(model, optimizer, x, labels):
    """Sums in another order: a bias before a norm of the batch has a gradient of rounding alone."""
    return trained.nnx_step(model, optimizer, x[::-1], labels[::-1])


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


class OwnState(train_state.TrainState):
    """Names of its own, and a raw key that each step replaces."""

    statistics: Any
    rng: Any


def own_state(variables, tx):
    return OwnState.create(
        apply_fn=trained.Model().apply,
        params=variables["params"],
        tx=tx,
        statistics=variables["batch_stats"],
        rng=jax.random.PRNGKey(3),
    )


def step_of_own_state(state, x, labels):
    rng, key = jax.random.split(state.rng)

    def loss(params):
        variables = {"params": params, "batch_stats": state.statistics}
        logits, updates = state.apply_fn(
            variables, x, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return loss_of(logits, labels), updates["batch_stats"]

    (value, statistics), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, statistics=statistics, rng=rng), value


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

OWN = with_(STEPS, linen_state=own_state, linen_step=step_of_own_state)

RIGHT = [
    pytest.param(with_(STEPS, nnx_step=FUNCTIONAL), id="functional step"),
    pytest.param(
        with_(GIVEN, nnx_optimizer=adamw(mask=by_axes)), id="mask of layers in a list", marks=SLOW
    ),
    pytest.param(with_(PLAIN, nnx_step=sharded(mean)), id="mean over shards"),
    pytest.param(LORA, id="low rank"),
    pytest.param(
        with_(STEPS, optimizer=optax.adam(1e-2), nnx_step=reversed_batch), id="Adam on rounding"
    ),
    pytest.param(OWN, id="own state", marks=SLOW),
    pytest.param(STEPS, id="plain step", marks=SLOW),
    pytest.param(with_(PLAIN, optimizer=MULTI), id="several steps in one", marks=SLOW),
    pytest.param(
        with_(GIVEN, optimizer=optax.contrib.schedule_free_adamw(1e-2)),
        id="weights that an optimizer keeps",
        marks=SLOW,
    ),
    pytest.param(
        with_(GIVEN, optimizer=optax.masked(optax.adam(1e-2), trained.is_decayed)),
        id="moments of some",
        marks=SLOW,
    ),
]


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
    ("calls", with_(PLAIN, nnx_step=called_twice), 1, "optimizer", TWICE),
    ("schedule", with_(PLAIN, nnx_optimizer=adamw(1e-2)), 1, "params/", "is moved in NNX only"),
    ("mean", with_(PLAIN, nnx_step=sharded(mean_of_means)), 1, "params/", "is 0.25 times that of"),
    ("mean", with_(PLAIN, nnx_step=sharded(total)), 1, "params/", "is 4 times that of Linen on"),
    ("key", with_(STEPS, nnx_step=functional(nnx.BatchStat)), 2, "draws", f"NNX {SAME}"),
    ("key", with_(STEPS, linen_step=linen_key_not_folded), 2, "draws", f"Linen {SAME}"),
    ("statistics", with_(STEPS, nnx_step=functional(nnx.RngState)), 1, "batch_", f"{STALE} NNX"),
    ("statistics", with_(STEPS, linen_step=linen_statistics_lost), 1, "batch_", f"{STALE} Linen"),
    ("statistics", with_(OWN, nnx_step=functional(nnx.RngState)), 1, "batch_", f"{STALE} NNX"),
    ("filter", with_(LORA, wrt=nnx.Param), 1, BASE, "is moved in NNX only"),
    ("filter", with_(LORA, optimizer=optax.adam(1e-2)), 1, BASE, "is trained in Linen only"),
    ("size", with_(PLAIN, optimizer=SGD, nnx_optimizer=TRUST), 1, "params/", "size in NNX only"),
    ("applied", with_(PLAIN, nnx_step=not_applied), 2, "params/", f"{STALE} NNX"),
]
