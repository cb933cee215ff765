"""Lifts as models use them, and the ports that docs/uses.md shows."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from nnx_impl.decode import linen_attention
from shared import Pair, verify

B, T, F, N = 2, 4, 6, 3


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def stack(init, rngs, axis=0):
    """N layers, each of its own rngs, along `axis`."""

    def init_layer(_, rngs):
        return None, init(rngs)

    scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, axis), graph=False)
    return scan(None, rngs.split(N))[1]


# A decoder: layers along axis 1 of params with named axes, rematerialised, one flag for all.


class DecoderLayer(nn.Module):
    @nn.compact
    def __call__(self, x, positions, deterministic):
        scale = nn.with_logical_partitioning(nn.initializers.ones_init(), ("norm",))
        kernel = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        h = nn.RMSNorm(scale_init=scale)(x) + positions
        h = nn.Dense(F, use_bias=False, kernel_init=kernel)(h)
        h = nn.Dropout(0.1, broadcast_dims=(-2,))(h, deterministic=deterministic)
        return x + nn.silu(h), None


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, x, positions, deterministic=True):
        policy = jax.checkpoint_policies.dots_saveable
        layer = nn.remat(DecoderLayer, policy=policy, prevent_cse=False, static_argnums=(3,))
        layers = nn.scan(
            layer,
            variable_axes={"params": 1},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=N,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return layers(name="layers")(x, positions, deterministic)[0]


class PortDecoderLayer(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.RMSNorm(F, scale_metadata={"out_sharding": ("norm",)}, rngs=rngs)
        names = {"out_sharding": ("embed", "mlp")}
        self.dense = nnx.Linear(F, F, use_bias=False, kernel_metadata=names, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, broadcast_dims=(-2,))

    def __call__(self, x, positions, rngs, deterministic):
        h = self.dense(self.norm(x) + positions)
        h = self.dropout(h, deterministic=deterministic, rngs=rngs)
        return x + nnx.silu(h)


class PortDecoder(nnx.Module):
    def __init__(self, rngs, partition="layers"):
        axes = {"in_axes": None, "out_axes": 1, "partition": partition, "graph": False}
        self.layers = stack(nnx.transform_metadata(PortDecoderLayer, **axes), rngs, axis=1)
        self.rngs = rngs.fork()

    def __call__(self, x, positions, deterministic=True):
        # The flag is no input of the scan, which would trace it.
        def call(layer, x, positions, rngs):
            policy = jax.checkpoint_policies.dots_saveable
            remat = nnx.remat(
                PortDecoderLayer.__call__,
                policy=policy,
                prevent_cse=False,
                static_argnums=(4,),
                graph=False,
            )
            return remat(layer, x, positions, rngs, deterministic)

        axes = (1, nnx.Carry, None, 0)
        scan = nnx.scan(call, in_axes=axes, out_axes=nnx.Carry, graph=False)
        return scan(self.layers, x, positions, self.rngs.split(N))


class NoNameForLayers(PortDecoder):
    def __init__(self, rngs):
        super().__init__(rngs, partition="other")


# An encoder: what each block computes on the way comes out, stacked.


class EncoderBlock(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        out = {}
        y = nn.LayerNorm()(x)
        y = nn.MultiHeadDotProductAttention(num_heads=2)(y, y)
        x = out["attention"] = x + nn.Dropout(0.2)(y, deterministic)
        y = nn.Dense(F)(nn.gelu(nn.Dense(8)(nn.LayerNorm()(x))))
        x = out["mlp"] = x + nn.Dropout(0.2)(y, deterministic)
        return x, out


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        blocks = nn.scan(
            nn.remat(EncoderBlock, prevent_cse=False, static_argnums=(2,)),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=N,
        )
        x, out = blocks(name="blocks")(x, deterministic)
        return nn.LayerNorm(name="norm")(x), out


class PortEncoderBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm_1, self.norm_2 = (nnx.LayerNorm(F, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(
            2, F, decode=False, attention_fn=linen_attention, rngs=rngs
        )
        self.up, self.down = nnx.Linear(F, 8, rngs=rngs), nnx.Linear(8, F, rngs=rngs)
        self.dropout = nnx.Dropout(0.2)

    def __call__(self, x, rngs, deterministic):
        out = {}
        y = self.attention(self.norm_1(x))
        x = out["attention"] = x + self.dropout(y, deterministic=deterministic, rngs=rngs)
        y = self.down(nnx.gelu(self.up(self.norm_2(x))))
        x = out["mlp"] = x + self.dropout(y, deterministic=deterministic, rngs=rngs)
        return x, out


class PortEncoder(nnx.Module):
    def __init__(self, rngs):
        self.blocks, self.norm = stack(PortEncoderBlock, rngs), nnx.LayerNorm(F, rngs=rngs)
        self.rngs = rngs.fork()

    def __call__(self, x, deterministic=True):
        def call(block, x, rngs):
            static = {"static_argnums": (3,), "prevent_cse": False, "graph": False}
            return nnx.remat(PortEncoderBlock.__call__, **static)(block, x, rngs, deterministic)

        scan = nnx.scan(call, in_axes=(0, nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        x, out = scan(self.blocks, x, self.rngs.split(N))
        return self.norm(x), out


# A decoder with a cache: params along axis 1, the rest along axis 0; a layer sows.


class Remembering(nn.Module):
    @nn.compact
    def __call__(self, x, bias, deterministic):
        y = nn.Dense(F, use_bias=False, name="query")(x) + bias
        is_ready = self.has_variable("cache", "memory")
        memory = self.variable("cache", "memory", jnp.zeros, (B, F))
        if is_ready:
            memory.value = 0.5 * memory.value + jnp.mean(y, axis=1)
        y = nn.Dropout(0.1)(y + memory.value[:, None], deterministic=deterministic)
        self.sow("intermediates", "size", jnp.mean(y**2))
        return x + y, None


class Remember(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        bias = self.param("bias", nn.initializers.normal(0.1), (T, F))
        layers = nn.scan(
            Remembering,
            variable_axes={"params": 1, "cache": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=N,
        )
        return layers(name="layers")(x, bias, deterministic)[0]


class PortRemembering(nnx.Module):
    def __init__(self, rngs):
        self.query = nnx.Linear(F, F, use_bias=False, rngs=rngs)
        self.memory = nnx.Cache(jnp.zeros((B, F)))
        self.dropout = nnx.Dropout(0.1)

    def __call__(self, x, bias, rngs, deterministic):
        y = self.query(x) + bias
        self.memory[...] = 0.5 * self.memory[...] + jnp.mean(y, axis=1)
        y = self.dropout(y + self.memory[:, None], deterministic=deterministic, rngs=rngs)
        self.sow(nnx.Intermediate, "size", jnp.mean(y**2))
        return x + y


class PortRemember(nnx.Module):
    axes = {nnx.Param: 1, ...: 0}  # noqa: RUF012

    def __init__(self, rngs):
        self.bias = nnx.Param(nnx.initializers.normal(0.1)(rngs.params(), (T, F)))
        # A vmap makes the layers: a scan takes no prefix of a layer that has a None in it.
        one = nnx.eval_shape(lambda: PortRemembering(nnx.Rngs(0)))
        axes = nnx.prefix(one, self.axes, graph=False)
        vmap = nnx.vmap(PortRemembering, in_axes=0, out_axes=axes, graph=False)
        self.layers, self.rngs = vmap(rngs.split(N)), rngs.fork()

    def __call__(self, x, deterministic=True):
        def call(layer, x, bias, rngs):
            capture = nnx.capture(PortRemembering.__call__, nnx.Intermediate)
            x, seen = capture(layer, x, bias, rngs, deterministic)
            return x, seen["size"].get_value()

        axes = (nnx.prefix(self.layers, self.axes, graph=False), nnx.Carry, None, 0)
        scan = nnx.scan(call, in_axes=axes, out_axes=(nnx.Carry, 0), graph=False)
        x, size = scan(self.given(), x, self.bias[...], self.rngs.split(N))
        self.sow(nnx.Intermediate, "size", size)
        return x

    def given(self):
        return self.layers


class LosesItsCache(PortRemember):
    def given(self):
        return nnx.clone(self.layers)


# A recurrent network over time, whose carry is reset where an episode ends.


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x, resets):
        def step(cell, carry, inputs):
            x, reset = inputs
            carry = jax.tree.map(lambda c: jnp.where(reset[:, None], 0.0, c), carry)
            return cell(carry, x)

        cell = nn.LSTMCell(5, name="cell")
        carry = cell.initialize_carry(jax.random.key(0), x[:, 0].shape)
        rngs = {"params": False}
        scan = nn.scan(step, variable_broadcast="params", split_rngs=rngs, in_axes=1, out_axes=1)
        carry, y = scan(cell, carry, (x, resets))
        return nn.Dense(2)(y), carry


class PortRecurrent(nnx.Module):
    reverse = False

    def __init__(self, rngs):
        self.cell, self.head = nnx.LSTMCell(F, 5, rngs=rngs), nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x, resets):
        def step(cell, carry, inputs):
            x, reset = inputs
            carry = jax.tree.map(lambda c: jnp.where(reset[:, None], 0.0, c), carry)
            return cell(carry, x)

        # It asks for rngs, and makes zeros.
        carry = self.cell.initialize_carry(x[:, 0].shape, nnx.Rngs(0))
        axes = {"in_axes": (None, nnx.Carry, 1), "out_axes": (nnx.Carry, 1)}
        scan = nnx.scan(step, **axes, reverse=self.reverse, graph=False)
        carry, y = scan(self.cell, carry, (x, resets))
        return self.head(y), carry


class Reversed(PortRecurrent):
    reverse = True


# A cell with a state that goes from step to step.


class Cell(nn.Module):
    def setup(self):
        self.dense = nn.Dense(F)
        self.mean = self.variable("state", "mean", jnp.zeros, (F,))

    def __call__(self, h, x):
        h = nn.tanh(self.dense(h + x))
        if not self.is_initializing():
            self.mean.value = 0.9 * self.mean.value + 0.1 * h.mean(axis=0)
        return h + self.mean.value, h


class Stateful(nn.Module):
    @nn.compact
    def __call__(self, x):
        cell, h = Cell(name="cell"), jnp.zeros((B, F))
        if self.is_initializing():  # what a scan carries is made before
            return cell(h, x[:, 0])
        scan = nn.scan(
            lambda cell, h, x: cell(h, x),
            variable_broadcast="params",
            variable_carry="state",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        return scan(cell, h, x)


class State(nnx.Variable):
    """What Linen has in `state`."""


class PortCell(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.mean = nnx.Linear(F, F, rngs=rngs), State(jnp.zeros(F))

    def __call__(self, h, x):
        h = nnx.tanh(self.dense(h + x))
        self.mean[...] = 0.9 * self.mean[...] + 0.1 * h.mean(axis=0)
        return h + self.mean[...], h


class PortStateful(nnx.Module):
    graph = False

    def __init__(self, rngs):
        self.cell = PortCell(rngs)

    def __call__(self, x):
        axes = {"in_axes": (None, nnx.Carry, 1), "out_axes": (nnx.Carry, 1)}
        scan = nnx.scan(PortCell.__call__, **axes, graph=self.graph)
        return scan(self.cell, jnp.zeros((B, F)), x)


class InGraphMode(PortStateful):
    graph = True


# An ensemble of critics: all see the same, each has its own params and masks.


class Critic(nn.Module):
    @nn.compact
    def __call__(self, states, actions, training=False):
        x = jnp.concatenate([states, actions], -1)
        x = nn.Dense(8, kernel_init=nn.initializers.orthogonal(1.4))(x)
        x = nn.relu(nn.LayerNorm()(nn.Dropout(0.1)(x, deterministic=not training)))
        return nn.Dense(1)(x)[..., 0]


class Critics(nn.Module):
    @nn.compact
    def __call__(self, states, actions, training=False):
        critics = nn.vmap(
            Critic,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=None,
            out_axes=0,
            axis_size=N,
        )
        return critics()(states, actions, training)


class PortCritic(nnx.Module):
    def __init__(self, rngs):
        init = nnx.initializers.orthogonal(1.4)
        self.dense, self.norm = (
            nnx.Linear(F + 2, 8, kernel_init=init, rngs=rngs),
            nnx.LayerNorm(8, rngs=rngs),
        )
        self.dropout, self.head = nnx.Dropout(0.1), nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, states, actions, training, rngs):
        x = self.dense(jnp.concatenate([states, actions], -1))
        x = nnx.relu(self.norm(self.dropout(x, deterministic=not training, rngs=rngs)))
        return self.head(x)[..., 0]


class PortCritics(nnx.Module):
    def __init__(self, rngs):
        vmap = nnx.vmap(PortCritic, in_axes=0, out_axes=0, graph=False)
        self.critics, self.rngs = vmap(rngs.split(N)), rngs.fork()

    def __call__(self, states, actions, training=False):
        axes = (0, None, None, None, 0)
        vmap = nnx.vmap(PortCritic.__call__, in_axes=axes, out_axes=0, graph=False)
        return vmap(self.critics, states, actions, training, self.rngs.split(N))


class EqualCritics(PortCritics):
    def __init__(self, rngs):
        vmap = nnx.vmap(PortCritic, in_axes=None, out_axes=0, axis_size=N, graph=False)
        self.critics, self.rngs = vmap(rngs), rngs.fork()


class OneMask(PortCritics):
    def __call__(self, states, actions, training=False):
        axes = (0, None, None, None, None)
        vmap = nnx.vmap(PortCritic.__call__, in_axes=axes, out_axes=0, graph=False)
        return vmap(self.critics, states, actions, training, self.rngs)


# A trunk whose carry is two arrays, with masks for all blocks.


class Trunk(nn.Module):
    @nn.compact
    def __call__(self, msa, pair, mask):
        blocks = nn.scan(
            nn.remat(TrunkBlock, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast,),
            length=N,
            unroll=2,
        )
        return blocks(name="trunk")((msa, pair), mask)[0]


class TrunkBlock(nn.Module):
    @nn.compact
    def __call__(self, carry, mask):
        msa, pair = carry
        bias = nn.Dense(1, use_bias=False, name="bias")(nn.LayerNorm(name="norm")(pair))[..., 0]
        weights = nn.softmax(jnp.where(mask[:, None] * mask, bias, -1e9))
        msa = msa + jnp.einsum("ij,sjf->sif", weights, nn.Dense(F, name="value")(msa))
        outer = jnp.einsum("sif,sjf->ijf", msa, msa)
        return (msa, pair + nn.Dense(F, name="outer")(outer) * mask[:, None]), None


class PortTrunkBlock(nnx.Module):
    def __init__(self, rngs):
        self.bias = nnx.Linear(F, 1, use_bias=False, rngs=rngs)
        self.norm = nnx.LayerNorm(F, rngs=rngs)
        self.value, self.outer = (nnx.Linear(F, F, rngs=rngs) for _ in range(2))

    def __call__(self, carry, mask):
        msa, pair = carry
        bias = self.bias(self.norm(pair))[..., 0]
        weights = nnx.softmax(jnp.where(mask[:, None] * mask, bias, -1e9))
        msa = msa + jnp.einsum("ij,sjf->sif", weights, self.value(msa))
        outer = jnp.einsum("sif,sjf->ijf", msa, msa)
        return msa, pair + self.outer(outer) * mask[:, None]


class PortTrunk(nnx.Module):
    def __init__(self, rngs):
        self.trunk = stack(PortTrunkBlock, rngs)

    def __call__(self, msa, pair, mask):
        block = nnx.remat(PortTrunkBlock.__call__, prevent_cse=False, graph=False)
        axes = {"in_axes": (0, nnx.Carry, None), "out_axes": nnx.Carry}
        return nnx.scan(block, **axes, unroll=2, graph=False)(self.trunk, (msa, pair), mask)


# A convolution whose kernel is standardised before it is used.


def standardised(kernel):
    mean, var = jnp.mean(kernel, axis=(0, 1, 2)), jnp.var(kernel, axis=(0, 1, 2))
    return (kernel - mean) * jax.lax.rsqrt(var + 1e-5)


class Standardised(nn.Module):
    @nn.compact
    def __call__(self, x):
        def trans_in(variables):
            params = variables.get("params")  # in init there are none yet
            if not params:
                return variables
            return {"params": {**params, "kernel": standardised(params["kernel"])}}

        conv = nn.map_variables(nn.Conv, "params", trans_in, mutable=True)
        return nn.relu(conv(3, (2, 2), name="conv")(x))


class PortStandardised(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(5, 3, (2, 2), rngs=rngs)

    def __call__(self, x):
        conv = self.copy()
        conv.kernel[...] = standardised(conv.kernel[...])
        return nnx.relu(conv(x))

    def copy(self):
        return nnx.clone(self.conv, graph=False)


class Overwritten(PortStandardised):
    def copy(self):
        return self.conv


# As many steps as the input asks for, which are counted.


class Pondering(nn.Module):
    def setup(self):
        self.cell, self.halt = nn.Dense(F), nn.Dense(1)
        self.steps = self.variable("state", "steps", lambda: jnp.zeros((), jnp.int32))

    def __call__(self, x):
        def goes_on(_, carry):
            return jnp.min(carry[1]) < 0.9

        def step(model, carry):
            x, p = carry
            model.steps.value += 1
            x = nn.tanh(model.cell(x))
            return x, p + (1 - p) * nn.sigmoid(model.halt(x))

        carry = x, jnp.zeros((B, 1))
        if self.is_initializing():  # no param is made in a loop
            return step(self, carry)
        filters = {"carry_variables": "state", "broadcast_variables": "params"}
        return nn.while_loop(goes_on, step, self, carry, **filters)


class PortPondering(nnx.Module):
    enough = 0.9

    def __init__(self, rngs):
        self.cell, self.halt = nnx.Linear(F, F, rngs=rngs), nnx.Linear(F, 1, rngs=rngs)
        self.steps = State(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        def step(carry):
            model, x, p = carry
            model.steps[...] += 1
            x = nnx.tanh(model.cell(x))
            return model, x, p + (1 - p) * nnx.sigmoid(model.halt(x))

        carry = self, x, jnp.zeros((B, 1))
        goes_on = lambda carry: jnp.min(carry[2]) < self.enough  # noqa: E731
        return nnx.while_loop(goes_on, step, carry, graph=False)[1:]


class StopsLater(PortPondering):
    enough = 0.99


# State-space models: one for each feature, side by side on axis 1; a batch outside.


class StateSpace(nn.Module):
    @nn.compact
    def __call__(self, u):
        a, b, c = (self.param(name, nn.initializers.normal(0.5), (5,)) for name in "abc")
        last = self.variable("cache", "last", jnp.zeros, (5,))

        def step(h, u):
            h = jnp.exp(-jnp.exp(a)) * h + b * u
            return h, jnp.sum(c * h)

        h, y = jax.lax.scan(step, last.value, u)
        if not self.is_initializing() and self.is_mutable_collection("cache"):
            last.value = h
        return y


class Sequence(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
        of_features = nn.vmap(
            StateSpace,
            in_axes=1,
            out_axes=1,
            variable_axes={"params": 1, "cache": 1},
            split_rngs={"params": True},
        )
        y = nn.gelu(of_features(name="seq")(x))
        return x + nn.Dense(F)(nn.Dropout(0.1)(y, deterministic=deterministic))


class Sequences(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        batched = nn.vmap(
            Sequence,
            in_axes=(0, None),
            variable_axes={"params": None, "cache": 0},
            split_rngs={"params": False, "dropout": True},
        )
        return batched(name="layer")(x, deterministic)


class PortStateSpace(nnx.Module):
    def __init__(self, rngs):
        init = nnx.initializers.normal(0.5)
        self.a, self.b, self.c = (nnx.Param(init(rngs.params(), (5,))) for _ in range(3))
        self.last = nnx.Cache(jnp.zeros(5))

    def __call__(self, u):
        def step(h, u):
            h = jnp.exp(-jnp.exp(self.a)) * h + self.b * u
            return h, jnp.sum(self.c * h)

        self.last[...], y = jax.lax.scan(step, self.last[...], u)
        return y


class PortSequence(nnx.Module):
    def __init__(self, rngs):
        vmap = nnx.vmap(PortStateSpace, in_axes=0, out_axes=1, graph=False)
        self.seq, self.dense = vmap(rngs.split(F)), nnx.Linear(F, F, rngs=rngs)
        self.dropout = nnx.Dropout(0.1)

    def __call__(self, x, rngs, deterministic):
        vmap = nnx.vmap(PortStateSpace.__call__, in_axes=(1, 1), out_axes=1, graph=False)
        y = self.dropout(nnx.gelu(vmap(self.seq, x)), deterministic=deterministic, rngs=rngs)
        return x + self.dense(y)


class PortSequences(nnx.Module):
    def __init__(self, rngs):
        self.layer, self.rngs = PortSequence(rngs), rngs.fork()
        # Linen's init has seen a batch: of the variables, the cache alone has its axis.
        self.layer.seq.last = nnx.Cache(jnp.zeros((B, 5, F)))

    def __call__(self, x, deterministic=True):
        axes = nnx.prefix(self.layer, {nnx.Cache: 0, ...: None}, graph=False)
        vmap = nnx.vmap(PortSequence.__call__, in_axes=(axes, 0, 0, None), graph=False)
        return vmap(self.layer, x, self.rngs.split(B), deterministic)


# Feedback alignment: the way back goes through a kernel of its own.


class Aligned(nn.Module):
    @nn.compact
    def __call__(self, x):
        def forward(dense, x, back):
            return dense(x), (x, back)

        def backward(kept, g):
            x, back = kept
            of_dense = {"params": {"kernel": x.T @ g, "bias": g.sum(axis=0)}}
            return of_dense, g @ back.T, jnp.zeros_like(back)

        back = self.param("back", nn.initializers.lecun_normal(), (F, 5))
        call = nn.custom_vjp(lambda dense, x, _: dense(x), forward, backward)
        return call(nn.Dense(5, name="dense"), nn.tanh(nn.Dense(F, name="below")(x)), back)


class PortAligned(nnx.Module):
    def __init__(self, rngs):
        self.below, self.dense = nnx.Linear(F, F, rngs=rngs), nnx.Linear(F, 5, rngs=rngs)
        self.back = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (F, 5)))

    def __call__(self, x):
        def forward(dense, x, back):
            return dense(x), (dense, x, back)

        def backward(kept, g):
            dense, x, back = kept
            of_dense = nnx.clone(dense, graph=False)
            of_dense.kernel[...], of_dense.bias[...] = x.T @ g, g.sum(axis=0)
            return of_dense, g @ back.T, jnp.zeros_like(back)

        call = nnx.custom_vjp(lambda dense, x, _: dense(x), graph=False)
        call.defvjp(forward, backward)
        return call(self.dense, nnx.tanh(self.below(x)), self.back[...])


class Plain(PortAligned):
    def __call__(self, x):
        return self.dense(nnx.tanh(self.below(x)))


# A network whose blocks are rematerialised one by one, with an embedding and a flag.


class ResBlock(nn.Module):
    @nn.compact
    def __call__(self, x, time, deterministic):
        h = nn.Conv(4, (3, 3))(nn.silu(nn.GroupNorm(num_groups=2)(x)))
        h = nn.silu(h + nn.Dense(4)(nn.silu(time))[:, None, None])
        return x[..., :4] + nn.Dropout(0.1)(h, deterministic=deterministic)


class Unet(nn.Module):
    @nn.compact
    def __call__(self, x, time, deterministic=True):
        block = nn.remat(ResBlock, static_argnums=(3,))
        skip = block(name="down")(x, time, deterministic)
        h = nn.Conv(4, (3, 3), strides=(2, 2), name="half")(skip)
        h = jax.image.resize(h, skip.shape, "nearest")
        h = block(name="up")(jnp.concatenate([h, skip], -1), time, deterministic)
        return nn.Conv(2, (3, 3), name="last")(h)


class PortResBlock(nnx.Module):
    def __init__(self, inputs, rngs):
        self.norm = nnx.GroupNorm(inputs, num_groups=2, rngs=rngs)
        self.conv = nnx.Conv(inputs, 4, (3, 3), rngs=rngs)
        self.dense, self.dropout = nnx.Linear(5, 4, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x, time, deterministic):
        h = self.conv(nnx.silu(self.norm(x)))
        h = nnx.silu(h + self.dense(nnx.silu(time))[:, None, None])
        return x[..., :4] + self.dropout(h, deterministic=deterministic)


class PortUnet(nnx.Module):
    def __init__(self, rngs):
        self.down, self.up = PortResBlock(4, rngs), PortResBlock(8, rngs)
        self.half = nnx.Conv(4, 4, (3, 3), strides=(2, 2), rngs=rngs)
        self.last = nnx.Conv(4, 2, (3, 3), rngs=rngs)

    def __call__(self, x, time, deterministic=True):
        block = nnx.remat(PortResBlock.__call__, static_argnums=(3,), graph=False)
        skip = block(self.down, x, time, deterministic)
        h = jax.image.resize(self.half(skip), skip.shape, "nearest")
        h = block(self.up, jnp.concatenate([h, skip], -1), time, deterministic)
        return self.last(h)


# Experts, of which each token goes through the best; Linen's init goes through all.


class Experts(nn.Module):
    def setup(self):
        self.experts, self.router = [nn.Dense(F) for _ in range(N)], nn.Dense(N)

    def __call__(self, x):
        branches = [lambda model, x, i=i: model.experts[i](x) for i in range(N)]
        if self.is_initializing():
            for branch in branches:
                branch(self, x)
        scores = nn.softmax(self.router(x))
        best = jnp.argmax(scores)
        return scores[best] * nn.switch(best, branches, self, x)


class PortExperts(nnx.Module):
    def __init__(self, rngs):
        self.experts = nnx.List([nnx.Linear(F, F, rngs=rngs) for _ in range(N)])
        self.router = nnx.Linear(F, N, rngs=rngs)

    def route(self, x):
        branches = [lambda model, x, i=i: model.experts[i](x) for i in range(N)]
        scores = nnx.softmax(self.router(x))
        best = jnp.argmax(scores)
        return scores[best] * nnx.switch(best, branches, self, x, graph=False)

    def __call__(self, x):
        return nnx.vmap(PortExperts.route, in_axes=(None, 0), out_axes=0, graph=False)(self, x)


# A pipeline: stages side by side on a mesh axis, run again for each batch that comes in.


class Stage(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        return x + nn.relu(nn.Dense(F, kernel_init=init)(x))


class Pipeline(nn.Module):
    @nn.compact
    def __call__(self, x):
        stages = nn.vmap(
            Stage,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            spmd_axis_name="stage",
            axis_size=N,
            metadata_params={nn.PARTITION_NAME: "stage"},
        )

        def turn(stages, buffer, x):
            buffer = stages(jnp.roll(buffer, 1, axis=0).at[0].set(x))
            return buffer, buffer[-1]

        rngs = {"params": False}
        scan = nn.scan(turn, variable_broadcast="params", split_rngs=rngs)
        x = jnp.concatenate([x, jnp.zeros((N - 1, F))])
        return scan(stages(name="stages"), jnp.zeros((N, F)), x)[1][N - 1 :]


class PortStage(nnx.Module):
    def __init__(self, rngs):
        names = {"out_sharding": ("embed", "mlp")}
        self.dense = nnx.Linear(F, F, kernel_metadata=names, rngs=rngs)

    def __call__(self, x):
        return x + nnx.relu(self.dense(x))


class PortPipeline(nnx.Module):
    def __init__(self, rngs):
        axes = {"in_axes": None, "out_axes": 0, "partition": "stage", "graph": False}
        init = nnx.transform_metadata(PortStage, **axes)
        self.stages = nnx.vmap(init, in_axes=0, out_axes=0, graph=False)(rngs.split(N))

    def __call__(self, x):
        def turn(stages, buffer, x):
            axes = {"in_axes": (0, 0), "out_axes": 0, "spmd_axis_name": "stage"}
            vmap = nnx.vmap(PortStage.__call__, **axes, graph=False)
            buffer = vmap(stages, jnp.roll(buffer, 1, axis=0).at[0].set(x))
            return buffer, buffer[-1]

        axes = {"in_axes": (None, nnx.Carry, 0), "out_axes": (nnx.Carry, 0)}
        x = jnp.concatenate([x, jnp.zeros((N - 1, F))])
        return nnx.scan(turn, **axes, graph=False)(self.stages, jnp.zeros((N, F)), x)[1][N - 1 :]


# A block that is compiled once, and called again.


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
        return nn.relu(norm(nn.Dense(F)(x)))


class Compiled(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        block = nn.jit(Block, static_argnums=(2,))
        return block(name="b")(block(name="a")(x, train), train)


class PortBlock(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)
        self.norm = nnx.BatchNorm(F, momentum=0.9, rngs=rngs)

    def __call__(self, x, train):
        return nnx.relu(self.norm(self.dense(x), use_running_average=not train))


class PortCompiled(nnx.Module):
    def __init__(self, rngs):
        self.a, self.b = PortBlock(rngs), PortBlock(rngs)

    def __call__(self, x, train=False):
        block = self.jit(PortBlock.__call__)
        return block(self.b, block(self.a, x, train), train)

    def jit(self, function):
        return nnx.jit(function, static_argnums=(2,), graph=False)


class LosesStatistics(PortCompiled):
    def jit(self, function):
        return jax.jit(function, static_argnums=(2,))


# One mask for all steps of time.


class MaskedCell(nn.Module):
    @nn.compact
    def __call__(self, h, x):
        h = nn.tanh(nn.Dense(F)(h + x))
        h = nn.Dropout(0.3, deterministic=False)(h)
        return h, h


class Variational(nn.Module):
    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            MaskedCell,
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": False},
            in_axes=1,
            out_axes=1,
        )
        return scan(name="cell")(jnp.zeros((B, F)), x)


class PortMaskedCell(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.dropout = nnx.Linear(F, F, rngs=rngs), nnx.Dropout(0.3)

    def __call__(self, h, x, rngs):
        h = nnx.tanh(self.dense(h + x))
        h = self.dropout(h, rngs=rngs)
        return h, h


class PortVariational(nnx.Module):
    def __init__(self, rngs):
        self.cell, self.rngs = PortMaskedCell(rngs), rngs.fork()

    def __call__(self, x):
        axes = {"in_axes": (None, nnx.Carry, 1, None), "out_axes": (nnx.Carry, 1)}
        scan = nnx.scan(PortMaskedCell.__call__, **axes, graph=False)
        return scan(self.cell, jnp.zeros((B, F)), x, self.drawn())

    def drawn(self):
        return self.rngs.dropout()  # a key: a stream would be carried


class MaskForEachStep(PortVariational):
    def drawn(self):
        return self.rngs


# An energy, and the force that is its gradient.


def total(net, x):
    return net(x).sum()


class Energy(nn.Module):
    @nn.compact
    def __call__(self, x):
        net = nn.Sequential([nn.Dense(8), nn.softplus, nn.Dense(1)])
        if self.is_initializing():
            return net(x)
        energy, (force,) = nn.value_and_grad(total, net, x)
        (again,) = nn.grad(total, net, 2.0 * x)
        return energy, force - again


class PortEnergy(nnx.Module):
    def __init__(self, rngs):
        layers = nnx.Linear(F, 8, rngs=rngs), nnx.softplus, nnx.Linear(8, 1, rngs=rngs)
        self.net = nnx.Sequential(*layers)

    def __call__(self, x):
        energy, force = nnx.value_and_grad(total, argnums=1, graph=False)(self.net, x)
        again = nnx.grad(total, argnums=1, graph=False)(self.net, 2.0 * x)
        return energy, force - again


def bools(*shape):
    return jax.ShapeDtypeStruct(shape, "bool")


def trunk_inputs(key):
    msa, pair, mask = jax.random.split(key, 3)
    shapes = (jax.random.normal(msa, (2, T, F)), jax.random.normal(pair, (T, T, F)))
    return *shapes, jax.random.bernoulli(mask, 0.7, (T, 1))[:, 0]


BATCH, TEXT = (floats(B, F),), (floats(B, T, F),)
# Linen's model, its port, the inputs.
USES = {
    "decoder": (Decoder(), PortDecoder, (*TEXT, *TEXT)),
    "encoder": (Encoder(), PortEncoder, TEXT),
    "cache": (Remember(), PortRemember, TEXT),
    "recurrent": (Recurrent(), PortRecurrent, (*TEXT, bools(B, T))),
    "carried state": (Stateful(), PortStateful, TEXT),
    "critics": (Critics(), PortCritics, (*BATCH, floats(B, 2))),
    "trunk": (Trunk(), PortTrunk, trunk_inputs),
    "standardised": (Standardised(), PortStandardised, (floats(B, 4, 4, 5),)),
    "pondering": (Pondering(), PortPondering, BATCH),
    "state space": (Sequences(), PortSequences, TEXT),
    "aligned": (Aligned(), PortAligned, BATCH),
    "unet": (Unet(), PortUnet, (floats(B, 4, 4, 4), floats(B, 5))),
    "experts": (
        nn.vmap(Experts, variable_axes={"params": None}, split_rngs={"params": False})(),
        PortExperts,
        BATCH,
    ),
    "pipeline": (Pipeline(), PortPipeline, BATCH),
    "compiled": (Compiled(), PortCompiled, BATCH),
    "one mask": (Variational(), PortVariational, TEXT),
    "energy": (Energy(), PortEnergy, BATCH),
}


def verified(name, port=None):
    linen, right, inputs = USES[name]
    return verify(Pair(linen, port or right, inputs), samples=1)


@pytest.mark.quick("critics", "aligned", "pondering")
@pytest.mark.parametrize("name", USES)
def test_the_port_is_the_model(name):
    found = verified(name)
    assert found.verdict == "identical", found.divergence


MISTAKES = [
    ("decoder", NoNameForLayers, "axis names"),
    ("cache", LosesItsCache, "add (2, 6) in Linen"),
    ("recurrent", Reversed, "index: i=1 in Linen, 3 in NNX"),
    ("carried state", InGraphMode, "mul"),
    ("critics", EqualCritics, "the same numbers several times"),
    ("critics", OneMask, "draws of (3, 2, 8) in Linen, (2, 8) in NNX"),
    ("standardised", Overwritten, ""),
    ("pondering", StopsLater, ""),
    ("aligned", Plain, "dot_general"),
    ("compiled", LosesStatistics, ""),
    ("one mask", MaskForEachStep, "another random draw"),
]


@pytest.mark.quick("EqualCritics", "Plain")
@pytest.mark.parametrize(("name", "port", "says"), MISTAKES, ids=[m[1].__name__ for m in MISTAKES])
def test_a_mistake_is_found(name, port, says):
    found = verified(name, port)
    assert found.verdict == "different"
    assert says in found.divergence.reason


def test_the_uses_of_the_page_are_those_of_this_file():
    page = (Path(__file__).parent.parent / "docs" / "uses.md").read_text()
    rows = re.findall(r"^\| \[([a-z ]+)\]\(.*\) \| .* \| `(\w+)`, `(\w+)` \|$", page, flags=re.M)
    assert [name for name, *_ in rows] == list(USES)
    shown = re.findall(r"^:pyobject: (\w+)$", page, flags=re.M)
    for name, linen, port in rows:
        assert {linen, port} <= set(shown)
        model, right, _ = USES[name]
        assert right is globals()[port]
        assert linen in type(model).__name__  # a lift is a class that has it in its name


# What stands in the way, as docs/symptoms.md has it.


def test_a_flag_that_is_an_input_is_traced_by_a_scan_and_not_by_a_vmap():
    def call(_, x, flag):
        return x if flag else 2 * x

    layers, x = jnp.ones(N), jnp.ones(F)
    scan = nnx.scan(call, in_axes=(0, nnx.Carry, None), out_axes=nnx.Carry, graph=False)
    with pytest.raises(
        jax.errors.TracerBoolConversionError, match="Attempted boolean conversion of traced array"
    ):
        scan(layers, x, True)
    assert nnx.vmap(call, in_axes=(0, None, None), graph=False)(layers, x, True).shape == (N, F)


def test_rngs_with_none_draw_anew_in_a_scan_and_not_in_a_vmap():
    def scanned(given):
        call = lambda _, x, given: (x, draw(given))  # noqa: E731
        axes = {"in_axes": (0, nnx.Carry, None), "out_axes": (nnx.Carry, 0)}
        return nnx.scan(call, **axes, graph=False)(jnp.ones(N), 0.0, given)[1]

    def mapped(given):
        call = lambda _, given: draw(given)  # noqa: E731
        return nnx.vmap(call, in_axes=(0, None), graph=False)(jnp.ones(N), given)

    def draw(given):
        key = given.noise() if isinstance(given, nnx.Rngs) else given
        return jax.random.normal(key)

    assert len(set(scanned(nnx.Rngs(0)).tolist())) == N
    assert len(set(scanned(nnx.Rngs(0).noise()).tolist())) == 1
    assert len(set(mapped(nnx.Rngs(0)).tolist())) == 1


def test_a_flag_that_is_static_is_given_by_position():
    x = jnp.ones((B, F))
    of_linen = nn.remat(Block, static_argnums=(2,))()
    of_nnx = nnx.remat(PortBlock.__call__, static_argnums=(2,), graph=False)
    for call, first in ((of_linen.init, jax.random.key(0)), (of_nnx, PortBlock(nnx.Rngs(0)))):
        call(first, x, True)
        with pytest.raises(ValueError, match="can only take integer values"):
            call(first, x, train=True)


def test_a_scan_makes_no_layers_by_a_prefix_with_a_none_in_it():
    one = nnx.eval_shape(lambda: PortRemembering(nnx.Rngs(0)))
    axes = nnx.prefix(one, {nnx.Param: 1, ...: 0}, graph=False)
    with pytest.raises(ValueError, match="Cannot broadcast output state") as caught:
        stack(PortRemembering, nnx.Rngs(0), axis=axes)
    assert "dropout.rngs" in str(caught.value)
    vmap = nnx.vmap(PortRemembering, out_axes=axes, graph=False)
    layers = vmap(nnx.Rngs(0).split(N))
    assert layers.query.kernel.shape == (F, N, F)
    assert layers.memory.shape == (N, B, F)


def test_a_stream_that_a_layer_keeps_has_no_axis_1():
    def init(rngs):
        return nnx.List([nnx.Linear(F, F, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)])

    with pytest.raises(ValueError, match="axis 1 is out of bounds for array of dimension 1"):
        stack(init, nnx.Rngs(0), axis=1)
    one = nnx.eval_shape(lambda: init(nnx.Rngs(0)))
    layers = stack(init, nnx.Rngs(0), nnx.prefix(one, {nnx.Param: 1, ...: 0}, graph=False))
    assert layers[0].kernel.shape == (F, N, F)


def test_a_stream_that_a_loop_carries_draws_anew_in_each_turn():
    def turn(carry):
        rngs, i, drawn = carry
        return rngs, i + 1, drawn.at[i].set(jax.random.normal(rngs.noise()))

    carry = nnx.Rngs(noise=0), 0, jnp.zeros(N)
    drawn = nnx.while_loop(lambda carry: carry[1] < N, turn, carry, graph=False)[2]
    assert len(set(drawn.tolist())) == N


def test_the_carry_of_a_cell_asks_for_rngs():
    cell = nnx.LSTMCell(F, 5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="RNGs must be provided to initialize the cell carry"):
        cell.initialize_carry((B, F))
    assert not any(jnp.any(c) for c in cell.initialize_carry((B, F), nnx.Rngs(0)))


def test_linen_makes_nothing_that_it_carries_inside_of_a_scan():
    scan = nn.scan(
        Cell,
        variable_broadcast="params",
        variable_carry="state",
        split_rngs={"params": False},
        in_axes=1,
    )
    message = "carry input and carry output must have the same pytree structure"
    with pytest.raises(TypeError, match=message):
        scan().init(jax.random.key(0), jnp.zeros((B, F)), jnp.ones((B, T, F)))


def test_the_gradient_of_a_module_is_no_dict():
    call = nnx.custom_vjp(lambda dense, x: dense(x), graph=False)
    call.defvjp(
        lambda dense, x: (dense(x), x),
        lambda x, g: ({"kernel": x.T @ g, "bias": g.sum(axis=0)}, g),
    )
    loss = nnx.grad(lambda dense, x: call(dense, x).sum(), graph=False)
    message = "Custom VJP bwd rule must produce an output with the same container"
    with pytest.raises(TypeError, match=message):
        loss(nnx.Linear(F, F, rngs=nnx.Rngs(0)), jnp.ones((B, F)))


@pytest.mark.quick("jit")
@pytest.mark.parametrize("lift", [jax.jit, jax.checkpoint, jax.vmap], ids=lambda f: f.__name__)
def test_a_transform_of_jax_loses_what_a_module_updates(lift):
    block, x = PortBlock(nnx.Rngs(0)), jnp.ones((B, F))
    mean = block.norm.mean[...]
    x, axes = (x[None], {"in_axes": (None, 0)}) if lift is jax.vmap else (x, {})
    lift(lambda block, x: block(x, True), **axes)(block, x)
    assert jnp.array_equal(block.norm.mean[...], mean)
    nnx.jit(PortBlock.__call__, static_argnums=(2,), graph=False)(block, x[0], True)
    assert not jnp.array_equal(block.norm.mean[...], mean)


def test_what_no_argument_of_jax_stands_for_any_more_is_refused_by_both():
    x, key = jnp.ones((B, F)), jax.random.key(0)

    class Reduced(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.vjp(lambda dense, x: dense(x), nn.Dense(F), x, reduce_axes=("batch",))[0]

    dense = nnx.Linear(F, F, rngs=nnx.Rngs(0))
    with pytest.raises(NotImplementedError, match="reduce_axes argument to vjp is deprecated"):
        Reduced().init(key, x)
    with pytest.raises(NotImplementedError, match="reduce_axes argument to vjp is deprecated"):
        nnx.vjp(lambda dense, x: dense(x), dense, x, reduce_axes=("batch",), graph=False)
    with pytest.raises(NotImplementedError, match="concrete argument is deprecated"):
        nn.remat(nn.Dense, concrete=True)(F).init(key, x)
    refused = pytest.raises(ValueError, match="If backend or device is specified")
    with refused, pytest.warns(DeprecationWarning, match="backend and device argument on jit"):
        nnx.jit(nnx.Linear.__call__, backend="cpu", graph=False)(dense, x)
