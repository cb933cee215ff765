"""A model with its training step in both APIs, to be planted mistakes into.

A stack of layers that Linen scans and the port has in a list: norms, dropout, batch statistics.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import nnx

from shared import Pair

B, D, N = 8, 6, 2


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = nn.LayerNorm(name="norm")(x)
        y = nn.Dense(D, name="dense")(y)
        y = nn.Dropout(0.25, deterministic=False)(nn.relu(y))
        return x + y, None


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(D, name="first")(x)
        x = nn.BatchNorm(use_running_average=False, name="bn")(x)
        lifted = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=N,
        )
        x, _ = lifted(name="layers")(x, None)
        return nn.Dense(3, name="last")(x)


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(D, rngs=rngs)
        self.dense = nnx.Linear(D, D, rngs=rngs)
        self.drop = nnx.Dropout(0.25, rngs=rngs)

    def __call__(self, x):
        return x + self.drop(nnx.relu(self.dense(self.norm(x))))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(D, D, rngs=rngs)
        self.bn = nnx.BatchNorm(D, rngs=rngs)
        self.layers = nnx.List([Layer(rngs) for _ in range(N)])
        self.last = nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x):
        x = self.bn(self.first(x))
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


def loss_of(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def linen_step(state, x, labels):
    key = jax.random.fold_in(state.key, state.step)

    def loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, updates = state.apply_fn(
            variables, x, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return loss_of(logits, labels), updates["batch_stats"]

    (value, statistics), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, batch_stats=statistics), value


def nnx_step(model, optimizer, x, labels):
    value, grads = nnx.value_and_grad(lambda model: loss_of(model(x), labels))(model)
    optimizer.update(model, grads)
    return value


def functional_step(model, optimizer, x, labels):
    """The same with `jax.value_and_grad`, of a model that is split."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        merged = nnx.merge(graphdef, params, rest, copy=True)
        value = loss_of(merged(x), labels)
        return value, nnx.state(merged, nnx.BatchStat, nnx.RngState)

    (value, (statistics, streams)), grads = jax.value_and_grad(loss, has_aux=True)(params)
    nnx.update(model, statistics, streams)
    optimizer.update(model, grads)
    return value


def batch(key):
    of_x, of_labels = jax.random.split(key)
    return jax.random.normal(of_x, (B, D)), jax.random.randint(of_labels, (B,), 0, 3)


SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 2, 10)


def is_decayed(params):
    """Kernels are; norms and biases are not, stacked or not."""

    def decayed(path, _):
        return "kernel" in jax.tree_util.keystr(path)

    return jax.tree_util.tree_map_with_path(decayed, params)


def adamw(schedule=SCHEDULE, mask=is_decayed, decay=1e-2):
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=decay, mask=mask)
    )


INPUTS = (jax.ShapeDtypeStruct((B, D), jnp.float32),)
GIVEN = Pair(Model(), Port, INPUTS, optimizer=adamw())
STEPS = Pair(
    Model(),
    Port,
    INPUTS,
    optimizer=adamw(),
    linen_step=linen_step,
    nnx_step=nnx_step,
    step_inputs=batch,
)


class Head(nn.Module):
    """Nothing is drawn, and no statistics are kept."""

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(name="norm")(nn.Dense(D, name="first")(x))
        return nn.Dense(3, name="last")(nn.relu(x))


class HeadPort(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(D, D, rngs=rngs)
        self.norm = nnx.LayerNorm(D, rngs=rngs)
        self.last = nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x))))


def linen_plain_step(state, x, labels):
    def loss(params):
        return loss_of(state.apply_fn({"params": params}, x), labels)

    value, grads = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=grads), value


PLAIN = Pair(
    Head(),
    HeadPort,
    INPUTS,
    optimizer=adamw(),
    linen_step=linen_plain_step,
    nnx_step=nnx_step,
    step_inputs=batch,
)


class LowRank(nn.Module):
    """A dense layer that is frozen, and two thin kernels that are trained."""

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.normal(0.1)
        a = self.param("lora_a", init, (D, 2))
        b = self.param("lora_b", init, (2, 3))
        return nn.Dense(3, use_bias=False, name="base")(x) + x @ a @ b


class LowRankPort(nnx.Module):
    def __init__(self, rngs):
        base = nnx.Linear(D, 3, use_bias=False, rngs=rngs)
        self.lora = nnx.LoRA(D, 2, 3, base_module=base, rngs=rngs)

    def __call__(self, x):
        return self.lora(x)


def frozen_or_trained(params):
    def label(path, _):
        return "trained" if "lora" in jax.tree_util.keystr(path) else "frozen"

    return jax.tree_util.tree_map_with_path(label, params)


LORA = Pair(
    LowRank(),
    LowRankPort,
    INPUTS,
    initial="loaded",
    optimizer=optax.multi_transform(
        {"trained": optax.adam(1e-2), "frozen": optax.set_to_zero()}, frozen_or_trained
    ),
    nnx_optimizer=optax.adam(1e-2),
    wrt=nnx.LoRAParam,
)
