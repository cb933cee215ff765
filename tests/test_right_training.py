"""Ports that are right in training, too: other keys, orders, layouts, initialisers and switches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES
from tests.ports import (
    augment,
    codebook,
    copies,
    deep,
    dropout,
    layouts,
    replicas,
    routed,
    sharded,
    starts,
    towers,
)

B, D, F, N = 3, 4, 6, 3
X = (jax.ShapeDtypeStruct((B, D), "float32"),)


# Keys that are made in other ways.


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        h = nn.Dense(F)(x)
        if not deterministic:
            h = h + 0.1 * jax.random.normal(self.make_rng("dropout"), h.shape)
        h = nn.Dropout(0.3)(nn.tanh(h), deterministic=deterministic)
        return nn.Dense(2)(h)


class Keys(nnx.Module):
    """Both keys are split of one of a stream of the model's own."""

    def __init__(self, rngs):
        self.a, self.b = nnx.Linear(D, F, rngs=rngs), nnx.Linear(F, 2, rngs=rngs)
        self.rngs = rngs.fork()

    def keys(self):
        return jax.random.split(self.rngs.noise())

    def drop(self, key, h):
        return jnp.where(jax.random.bernoulli(key, 0.7, h.shape), h / 0.7, 0.0)

    def __call__(self, x, deterministic=True):
        h = self.a(x)
        if deterministic:
            return self.b(nnx.tanh(h))
        one, other = self.keys()
        h = nnx.tanh(h + 0.1 * jax.random.normal(one, h.shape))
        return self.b(self.drop(other, h))


class FoldedIn(Keys):
    def keys(self):
        key = self.rngs.default()
        return [jax.random.fold_in(key, i) for i in (7, 3)]


class OldKeys(Keys):
    def keys(self):
        return jax.random.split(jax.random.PRNGKey(3))


class OtherKind(Keys):
    def keys(self):
        return jax.random.split(jax.random.key(3, impl="rbg"))


class Multiplied(Keys):
    """The mask is of numbers."""

    def drop(self, key, h):
        mask = jax.random.bernoulli(key, 0.7, h.shape).astype(h.dtype)
        return h * mask / 0.7


class Compared(Keys):
    """The mask is made of uniform numbers, as `bernoulli` does."""

    def drop(self, key, h):
        return jnp.where(jax.random.uniform(key, h.shape) < 0.7, h / 0.7, 0.0)


class MaskFirst(Keys):
    """What is drawn last is drawn first."""

    def __call__(self, x, deterministic=True):
        if deterministic:
            return self.b(nnx.tanh(self.a(x)))
        mask = jax.random.bernoulli(self.rngs(), 0.7, (B, F))
        noise = jax.random.normal(self.rngs(), (B, F))
        h = nnx.tanh(self.a(x) + 0.1 * noise)
        return self.b(jnp.where(mask, h / 0.7, 0.0))


class WithDropout(Keys):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.dropout = nnx.Dropout(0.3)

    def drop(self, key, h):
        return self.dropout(h, rngs=nnx.Rngs(key), deterministic=False)


class MethodsOfRngs(Keys):
    """`nnx.Rngs` draws by itself."""

    def __call__(self, x, deterministic=True):
        h = self.a(x)
        if not deterministic:
            h = h + 0.1 * self.rngs.normal(h.shape)
        h = nnx.tanh(h)
        if not deterministic:
            h = jnp.where(self.rngs.bernoulli(0.7, h.shape), h / 0.7, 0.0)
        return self.b(h)


class GivenKey(Keys):
    """The key is an argument of the call."""

    def __call__(self, x, key, deterministic=True):
        self.key = key
        return super().__call__(x, deterministic=deterministic)

    def keys(self):
        return jax.random.split(jax.random.wrap_key_data(self.key))


def noisy(port, **kwargs):
    return Pair(linen=Noisy(), nnx=lambda rngs: port(rngs), inputs=X, **kwargs)


KEYS = {
    "key split": noisy(Keys),
    "key folded in": noisy(FoldedIn),
    "PRNGKey": noisy(OldKeys),
    "rbg": noisy(OtherKind),
    "mask multiplied": noisy(Multiplied),
    "mask of uniform numbers": noisy(Compared),
    "mask drawn first": noisy(MaskFirst),
    "rngs given to dropout": noisy(WithDropout),
    "methods of rngs": noisy(MethodsOfRngs),
    "streams of other names": Pair(
        linen=Noisy(), nnx=lambda rngs: Keys(nnx.Rngs(params=3, noise=4)), inputs=X
    ),
    "key given": Pair(
        linen=Noisy(),
        nnx=lambda rngs: GivenKey(rngs),
        inputs=lambda key: (jax.random.normal(key, (B, D)), np.asarray([1, 2], np.uint32)),
        linen_call=lambda module, x, key: module(x),
    ),
}


# Several draws.


class Branches(nn.Module):
    @nn.compact
    def __call__(self, x):
        a = nn.Dropout(0.2, deterministic=True)(nn.tanh(nn.Dense(F, name="a")(x)))
        b = nn.Dropout(0.2, deterministic=True)(nn.silu(nn.Dense(F, name="b")(x)))
        return nn.Dense(2)(a + b)


class PortBranches(nnx.Module):
    """The other branch comes first, and one dropout is called for both."""

    def __init__(self, rngs):
        self.b, self.a = nnx.Linear(D, F, rngs=rngs), nnx.Linear(D, F, rngs=rngs)
        self.drop = nnx.Dropout(0.2, deterministic=True, rngs=rngs)
        self.last = nnx.Linear(F, 2, rngs=rngs)

    def __call__(self, x):
        b = self.drop(nnx.silu(self.b(x)))
        a = self.drop(nnx.tanh(self.a(x)))
        return self.last(a + b)


class Alike(nn.Module):
    """Both branches are alike, so are their masks."""

    @nn.compact
    def __call__(self, x):
        a, b = (nn.Dropout(0.2, deterministic=False)(nn.tanh(nn.Dense(F)(x))) for _ in range(2))
        return nn.Dense(2)(a + b)


class PortAlike(PortBranches):
    def __call__(self, x):
        b = self.drop(nnx.tanh(self.b(x)), deterministic=False)
        a = self.drop(nnx.tanh(self.a(x)), deterministic=False)
        return self.last(a + b)


class Steps(nn.Module):
    batched: bool = False

    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(D)
        every = jax.random.normal(self.make_rng("noise"), (N, *x.shape)) if self.batched else None
        for i in range(N):
            noise = (
                jax.random.normal(self.make_rng("noise"), x.shape) if every is None else every[i]
            )
            x = nn.tanh(dense(x)) + 0.1 * noise
        return x


class PortSteps(nnx.Module):
    """A draw for each step."""

    def __init__(self, rngs):
        self.dense, self.rngs = nnx.Linear(D, D, rngs=rngs), rngs.fork()

    def __call__(self, x):
        for key in jax.random.split(self.rngs.noise(), N):
            x = nnx.tanh(self.dense(x)) + 0.1 * jax.random.normal(key, x.shape)
        return x


class DrawnAtOnce(PortSteps):
    def noise(self, x):
        return jax.random.normal(self.rngs.noise(), (N, *x.shape))

    def __call__(self, x):
        for noise in self.noise(x):
            x = nnx.tanh(self.dense(x)) + 0.1 * noise
        return x


class DrawnByVmap(DrawnAtOnce):
    def noise(self, x):
        keys = jax.random.split(self.rngs.noise(), N)
        return jax.vmap(lambda key: jax.random.normal(key, x.shape))(keys)


class DrawnInScan(PortSteps):
    def __call__(self, x):
        def step(x, key):
            return nnx.tanh(self.dense(x)) + 0.1 * jax.random.normal(key, x.shape), None

        return jax.lax.scan(step, x, jax.random.split(self.rngs.noise(), N))[0]


class Sampled(nn.Module):
    @nn.compact
    def __call__(self, x):
        logits = nn.Dense(F)(x)
        action = jax.random.categorical(self.make_rng("action"), logits)
        order = jax.random.permutation(self.make_rng("order"), D)
        soft = nn.softmax(logits + jax.random.gumbel(self.make_rng("gumbel"), logits.shape))
        return soft, action, x[:, order]


class PortSampled(nnx.Module):
    """`categorical` and `gumbel` by hand."""

    def __init__(self, rngs):
        self.dense, self.rngs = nnx.Linear(D, F, rngs=rngs), rngs.fork()

    def gumbel(self):
        tiny = jnp.finfo("float32").tiny
        u = jax.random.uniform(self.rngs.sample(), (B, F), minval=tiny, maxval=1.0)
        return -jnp.log(-jnp.log(u))

    def __call__(self, x):
        logits = self.dense(x)
        soft = nnx.softmax(logits + self.gumbel())
        action = jnp.argmax(logits + self.gumbel(), axis=-1)
        order = jax.random.permutation(self.rngs.order(), D)
        return soft, action, x[:, order]


SEVERAL = {
    "branches in another order": Pair(Branches(), lambda rngs: PortBranches(rngs), X),
    "branches that are alike": Pair(Alike(), lambda rngs: PortAlike(rngs), X),
    "steps": Pair(Steps(), lambda rngs: PortSteps(rngs), X),
    "drawn at once": Pair(Steps(), lambda rngs: DrawnAtOnce(rngs), X),
    "drawn by vmap": Pair(Steps(), lambda rngs: DrawnByVmap(rngs), X),
    "drawn in a scan": Pair(Steps(), lambda rngs: DrawnInScan(rngs), X),
    "drawn one by one": Pair(Steps(batched=True), lambda rngs: PortSteps(rngs), X),
    "scan for drawn at once": Pair(Steps(batched=True), lambda rngs: DrawnInScan(rngs), X),
    "samples by hand": Pair(Sampled(), lambda rngs: PortSampled(rngs), X),
}


# Initialisers that are written otherwise.

init = nn.initializers


class Dense2(nn.Module):
    kernel: object = init.lecun_normal()
    bias: object = init.zeros

    @nn.compact
    def __call__(self, x):
        h = nn.tanh(nn.Dense(F, kernel_init=self.kernel, bias_init=self.bias)(x))
        return nn.Dense(2, use_bias=False)(h)


class PortDense2(nnx.Module):
    def __init__(self, rngs, kernel=None, bias=init.zeros):
        kernel = kernel or init.lecun_normal()
        self.a = nnx.Linear(D, F, kernel_init=kernel, bias_init=bias, rngs=rngs)
        self.b = nnx.Linear(F, 2, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.tanh(self.a(x)))


class Transposed(PortDense2):
    """Kernels as PyTorch has them, drawn so that the inputs are the last axis."""

    def __init__(self, rngs):
        start = init.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=-1, out_axis=-2)
        self.a = nnx.Param(start(rngs.params(), (F, D)))
        self.shift = nnx.Param(jnp.zeros(F))
        self.b = nnx.Param(start(rngs.params(), (2, F)))

    def __call__(self, x):
        return nnx.tanh(x @ self.a[...].T + self.shift[...]) @ self.b[...].T


def lecun_by_hand(key, shape, dtype=jnp.float32, out_sharding=None):
    return jax.random.truncated_normal(key, -2, 2, shape) * (shape[0] ** -0.5 / 0.87962566103423978)


def xavier_by_hand(key, shape, dtype=jnp.float32, out_sharding=None):
    limit = (6.0 / sum(shape)) ** 0.5
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def scaled(key, shape, dtype=jnp.float32, out_sharding=None):
    return 0.02 * jax.random.normal(key, shape)


def columns(key, shape, dtype=jnp.float32, out_sharding=None):
    """Drawn column by column."""
    keys = jax.random.split(key, shape[1])
    return jnp.stack([0.02 * jax.random.normal(key, shape[:1]) for key in keys], axis=1)


def starts_as(linen, nnx_init, bias=(init.zeros, init.zeros), **kwargs):
    return Pair(
        Dense2(linen, bias[0]), lambda rngs: PortDense2(rngs, nnx_init, bias[1]), X, **kwargs
    )


STARTS = {
    "variance scaling for lecun": starts_as(
        init.lecun_normal(), init.variance_scaling(1.0, "fan_in", "truncated_normal")
    ),
    "he as variance scaling": starts_as(
        init.variance_scaling(2.0, "fan_in", "normal"), init.normal((2.0 / D) ** 0.5)
    ),
    "lecun by hand": starts_as(init.lecun_normal(), lecun_by_hand),
    "xavier by hand": starts_as(init.xavier_uniform(), xavier_by_hand),
    "glorot for xavier": starts_as(init.xavier_normal(), nnx.initializers.glorot_normal()),
    "normal by hand": starts_as(init.normal(0.02), scaled),
    "column by column": starts_as(init.normal(0.02), columns),
    "orthogonal": starts_as(init.orthogonal(), nnx.initializers.orthogonal()),
    "zeros in other words": starts_as(
        init.lecun_normal(),
        init.lecun_normal(),
        (init.constant(0.0), lambda key, shape, dtype, **_: jnp.zeros(shape, dtype)),
    ),
    "constants": starts_as(
        init.lecun_normal(), init.lecun_normal(), (init.constant(-2.0), init.constant(-2))
    ),
    "transposed kernel": Pair(Dense2(), lambda rngs: Transposed(rngs), X),
    "loaded": starts_as(init.normal(0.02), init.lecun_normal(), initial="loaded"),
    "many kinds": starts.PAIR,
}


# Stacks and lists.


class Listed(deep.Port):
    """Layers in a list."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.steps = nnx.List([deep.Step(rngs) for _ in range(deep.N)])

    def __call__(self, x):
        h = self.first(x)
        for step in self.steps:
            h = step(h)
        return self.last(h)


class Seeds(Listed):
    """Each layer has a seed of its own."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.steps = nnx.List([deep.Step(nnx.Rngs(10 + i)) for i in range(deep.N)])


class SplitRngs(deep.Port):
    """Streams are split by a decorator."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.steps = nnx.split_rngs(splits=deep.N)(nnx.vmap(deep.Step))(rngs)


class Forked(deep.Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.steps = nnx.vmap(deep.Step)(rngs.fork(split=deep.N))


class GivenStep(deep.Step):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.drop = nnx.Dropout(0.25, deterministic=True)

    def __call__(self, x, rngs):
        return x + nnx.relu(self.drop(self.dense(x), rngs=rngs))


class Given(deep.Port):
    """The streams of all layers are split in the call, and scanned."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.steps = nnx.vmap(GivenStep)(rngs.split(deep.N))
        self.rngs = rngs.fork()

    def __call__(self, x):
        def one(h, step, rngs):
            return step(h, rngs)

        run = nnx.scan(one, in_axes=(nnx.Carry, 0, 0), out_axes=nnx.Carry)
        return self.last(run(self.first(x), self.steps, self.rngs.fork(split=deep.N)))


class Rematerialised(deep.Port):
    def __call__(self, x):
        one = nnx.remat(lambda h, step: step(h))
        run = nnx.scan(one, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.last(run(self.first(x), self.steps))


class Compiled(Listed):
    def __call__(self, x):
        h = self.first(x)
        for step in self.steps:
            h = nnx.jit(lambda step, h: step(h))(step, h)
        return self.last(h)


class ReluFirst(deep.Step):
    """Dropout scales by a positive number: relu may come first."""

    def __call__(self, x):
        return x + self.drop(nnx.relu(self.dense(x)))


class SwappedRelu(deep.Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.steps = nnx.vmap(ReluFirst)(rngs.split(deep.N))


class DrawnWhole(deep.Port):
    """The kernels of all layers are drawn as one array."""

    def __init__(self, rngs):
        super().__init__(rngs)
        whole = init.he_normal(batch_axis=0)
        self.steps.dense.kernel = nnx.Param(whole(rngs.params(), (deep.N, deep.D, deep.D)))


class Looped(nn.Module):
    """Linen's side in a loop."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(deep.D, name="stem")(x)
        for i in range(deep.N):
            x, _ = deep.Layer(name=f"layer_{i}")(x, None)
        return nn.Dense(2, name="head")(x)


class LinenRemat(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(deep.D, name="stem")(x)
        layers = nn.scan(
            nn.remat(deep.Layer),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=deep.N,
        )
        return nn.Dense(2, name="head")(layers(name="layers")(x, None)[0])


def stacked(port, linen=deep.PAIR.linen):
    return Pair(linen, lambda rngs: port(rngs), deep.PAIR.inputs)


STACKS = {
    "list for a stack": stacked(Listed),
    "a seed for each layer": stacked(Seeds),
    "split_rngs": stacked(SplitRngs),
    "fork": stacked(Forked),
    "streams given in the call": stacked(Given),
    "remat in NNX": stacked(Rematerialised),
    "jit in NNX": stacked(Compiled),
    "remat in Linen": stacked(deep.Port, LinenRemat()),
    "relu before dropout": stacked(SwappedRelu),
    "drawn as a whole": stacked(DrawnWhole),
    "loop against stack": stacked(deep.Port, Looped()),
    "loop against list": stacked(Listed, Looped()),
}


# Names of axes.


class ListedNames(sharded.Port):
    """A list of layers: no stack has a name."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.layers = nnx.List([sharded.Layer(rngs) for _ in range(sharded.N)])

    def __call__(self, tokens):
        h = self.rows[tokens]
        for layer in self.layers:
            h = layer(h)
        return self.head(h)


class NamesByPartitioning(sharded.Layer):
    """Names are given with the initialiser."""

    def __init__(self, rngs):
        super().__init__(rngs)
        start = nnx.with_partitioning(sharded.init, ("embed", "mlp"))
        self.wide = nnx.Param(start(rngs.params(), (sharded.D, sharded.F)))


class OtherWords(sharded.Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        make = nnx.vmap(NamesByPartitioning, transform_metadata=sharded.STACK)
        self.layers = make(rngs.split(sharded.N))


class Rows(nn.Module):
    """The last axis has no name."""

    names: tuple = ("rows", None)
    logical: bool = False

    @nn.compact
    def __call__(self, x):
        box = nn.with_logical_partitioning if self.logical else nn.with_partitioning
        return x @ self.param("w", box(init.normal(0.1), self.names), (D, F))


class PortRows(nnx.Module):
    def __init__(self, rngs, names):
        self.w = nnx.Param(init.normal(0.1)(rngs.params(), (D, F)), out_sharding=names)

    def __call__(self, x):
        return x @ self.w[...]


class Unnamed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ self.param("w", init.normal(0.1), (D, F))


def rows(linen, names):
    return Pair(linen, lambda rngs: PortRows(rngs, names), X)


NAMES = {
    "list without a name": Pair(sharded.Model(), lambda r: ListedNames(r), sharded.PAIR.inputs),
    "names by partitioning": Pair(sharded.Model(), lambda r: OtherWords(r), sharded.PAIR.inputs),
    "shorter names": rows(Rows(), ("rows",)),
    "logical names": rows(Rows(("rows", "columns"), True), ("rows", "columns")),
    "names in NNX alone": rows(Unnamed(), ("rows", "columns")),
    "spec for names": rows(Rows(("rows", "columns")), jax.P("rows", "columns")),
}


# How training is told.


class Flagged(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        h = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(F)(x))
        h = nn.Dropout(0.2, deterministic=not train)(nn.relu(h))
        return nn.Dense(2)(h)


class FlaggedBySetup(nn.Module):
    """Attributes that are handed down."""

    deterministic: bool = True

    def setup(self):
        self.a, self.b = nn.Dense(F), nn.Dense(2)
        self.norm = nn.BatchNorm(use_running_average=self.deterministic, momentum=0.9)
        self.drop = nn.Dropout(0.2, deterministic=self.deterministic)

    def __call__(self, x):
        return self.b(self.drop(nn.relu(self.norm(self.a(x)))))


class ByAttributes(nnx.Module):
    """As `nnx.Module.train` and `eval` have it."""

    def __init__(self, rngs):
        self.a, self.b = nnx.Linear(D, F, rngs=rngs), nnx.Linear(F, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(F, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return self.b(self.drop(nnx.relu(self.norm(self.a(x)))))


class ByArgument(ByAttributes):
    def __call__(self, x, train=False):
        h = self.norm(self.a(x), use_running_average=not train)
        return self.b(self.drop(nnx.relu(h), deterministic=not train))


class ByAttribute(ByAttributes):
    """An attribute of the model's own."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.training = False

    def __call__(self, x):
        h = self.norm(self.a(x), use_running_average=not self.training)
        return self.b(self.drop(nnx.relu(h), deterministic=not self.training))


class ByMode(ByAttributes):
    """A word that nobody else knows."""

    def __call__(self, x, mode="test"):
        h = self.norm(self.a(x), use_running_average=mode == "test")
        return self.b(self.drop(nnx.relu(h), deterministic=mode == "test"))


def evaluated(module):
    module.eval()
    return module


def flagged(port, linen=None, **kwargs):
    return Pair(linen or Flagged(), lambda rngs: evaluated(port(rngs)), X, **kwargs)


TRAINING = {
    "train against attributes": flagged(ByAttributes),
    "train against train": flagged(
        ByArgument, linen_kwargs={"train": False}, nnx_kwargs={"train": False}
    ),
    "train by default": flagged(ByArgument),
    "setup against attributes": flagged(ByAttributes, FlaggedBySetup()),
    "setup against train": flagged(ByArgument, FlaggedBySetup()),
    "training as an attribute": flagged(ByAttribute),
    "train_kwargs": flagged(
        ByMode,
        linen_train_kwargs={"train": True},
        nnx_kwargs={"mode": "test"},
        nnx_train_kwargs={"mode": "train"},
    ),
    "training in the call": flagged(
        ByArgument, linen_kwargs={"train": True}, nnx_kwargs={"train": True}
    ),
    "train_kwargs against arguments": dropout.PAIR,
}


# Batch norm under lifts, and attention.


class NormLayer(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(D)(x))
        return nn.tanh(y)


class ScannedNorms(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        layers = nn.scan(
            lambda layer, x, _: (layer(x, train), None),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=N,
        )
        return layers(NormLayer(name="layers"), x, None)[0]


class NormStep(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(D, D, rngs=rngs)
        self.norm = nnx.BatchNorm(D, momentum=0.9, rngs=rngs)

    def __call__(self, x, train):
        return nnx.tanh(self.norm(self.dense(x), use_running_average=not train))


class PortScannedNorms(nnx.Module):
    def __init__(self, rngs):
        self.steps = nnx.vmap(NormStep)(rngs.split(N))

    def __call__(self, x, train=False):
        def one(x, step):
            return step(x, train)

        return nnx.scan(one, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.steps)


class PortListedNorms(nnx.Module):
    def __init__(self, rngs):
        self.steps = nnx.List([NormStep(rngs) for _ in range(N)])

    def __call__(self, x, train=False):
        for step in self.steps:
            x = step(x, train)
        return x


class Example(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(F)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name="batch")(x)
        return nn.Dense(2)(nn.relu(x))


class MappedNorm(nn.Module):
    """Statistics over the examples, each of which is alone in its call."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.vmap(
            functools.partial(Example.__call__, train=train),
            variable_axes={"params": None, "batch_stats": None},
            split_rngs={"params": False},
            in_axes=0,
            axis_name="batch",
        )(Example(), x)


class WholeNorm(ByArgument):
    """The batch as a whole."""

    def __call__(self, x, train=False):
        return self.b(nnx.relu(self.norm(self.a(x), use_running_average=not train)))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        return nn.MultiHeadDotProductAttention(
            2, qkv_features=8, dropout_rate=0.2, deterministic=deterministic
        )(x)


class PortAttention(nnx.Module):
    def __init__(self, rngs):
        self.mix = nnx.MultiHeadAttention(
            2, D, 8, dropout_rate=0.2, decode=False, deterministic=True, rngs=rngs
        )

    def __call__(self, x):
        return self.mix(x)


class PortAttentionArgument(PortAttention):
    def __call__(self, x, deterministic=True):
        return self.mix(x, deterministic=deterministic)


SEQUENCE = (jax.ShapeDtypeStruct((2, 5, D), "float32"),)
LIFTS = {
    "batch norm in a scan": Pair(ScannedNorms(), lambda rngs: PortScannedNorms(rngs), X),
    "batch norm in a list": Pair(ScannedNorms(), lambda rngs: PortListedNorms(rngs), X),
    "axis name against batch": Pair(MappedNorm(), lambda rngs: WholeNorm(rngs), X),
    "attention by attribute": Pair(Attention(), lambda rngs: PortAttention(rngs), SEQUENCE),
    "attention by argument": Pair(Attention(), lambda r: PortAttentionArgument(r), SEQUENCE),
}


# The flag goes through lifts and configurations.


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
        y = nn.Dropout(0.2)(nn.tanh(nn.Dense(D)(x)), deterministic=deterministic)
        return x + y


class RematBlocks(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        for _ in range(N):
            x = nn.remat(Block, static_argnums=(2,))()(x, deterministic)
        return x


class JitBlocks(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        for _ in range(N):
            x = nn.jit(Block, static_argnums=(2,))()(x, deterministic)
        return x


class ScanBlocks(nn.Module):
    """The flag is an attribute of the scanned class."""

    deterministic: bool = True

    @nn.compact
    def __call__(self, x):
        def body(block, x, _):
            return block(x, self.deterministic), None

        scan = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=N,
        )
        return scan(Block(name="blocks"), x, None)[0]


class SetupBlocks(nn.Module):
    """One dropout for all layers."""

    def setup(self):
        self.layers = [nn.Dense(D) for _ in range(N)]
        self.drop = nn.Dropout(0.2)

    def encode(self, x, deterministic=True):
        for layer in self.layers:
            x = x + self.drop(nn.tanh(layer(x)), deterministic=deterministic)
        return x


@dataclasses.dataclass(frozen=True)
class Config:
    rate: float = 0.2
    deterministic: bool = True


class ConfigBlocks(nn.Module):
    config: Config = Config()

    @nn.compact
    def __call__(self, x):
        for _ in range(N):
            y = nn.tanh(nn.Dense(D)(x))
            x = x + nn.Dropout(self.config.rate)(y, deterministic=self.config.deterministic)
        return x


class PortBlock(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(D, D, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x, deterministic=None):
        return x + self.drop(nnx.tanh(self.dense(x)), deterministic=deterministic)


class PortBlocks(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([PortBlock(rngs) for _ in range(N)])

    def __call__(self, x, deterministic=True):
        for block in self.blocks:
            x = block(x, deterministic)
        return x


class PortBlocksByAttribute(PortBlocks):
    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class PortConfig(PortBlocks):
    def __init__(self, rngs, config):
        super().__init__(rngs)
        self.config = config

    def __call__(self, x):
        return super().__call__(x, self.config.deterministic)


def blocks(linen, port=PortBlocks, **kwargs):
    return Pair(linen, lambda rngs: evaluated(port(rngs)), X, **kwargs)


BLOCKS = {
    "remat with a flag": blocks(RematBlocks()),
    "jit with a flag": blocks(JitBlocks()),
    "scan with a flag": blocks(ScanBlocks()),
    "remat against attributes": blocks(RematBlocks(), PortBlocksByAttribute),
    "scan against attributes": blocks(ScanBlocks(), PortBlocksByAttribute),
    "one dropout for all layers": blocks(
        SetupBlocks(), linen_call=lambda module, x: module.encode(x)
    ),
    "config against a flag": blocks(ConfigBlocks()),
    "config against attributes": blocks(ConfigBlocks(), PortBlocksByAttribute),
    "config against config": blocks(ConfigBlocks(), lambda rngs: PortConfig(rngs, Config())),
}


class OwnMasks(nn.Module):
    """A mask for each head and example."""

    @nn.compact
    def __call__(self, x, deterministic=True):
        return nn.MultiHeadDotProductAttention(2, dropout_rate=0.2, broadcast_dropout=False)(
            x, deterministic=deterministic
        )


class PortOwnMasks(nnx.Module):
    def __init__(self, rngs):
        self.mix = nnx.MultiHeadAttention(
            2, D, dropout_rate=0.2, broadcast_dropout=False, decode=False, rngs=rngs
        )

    def __call__(self, x, deterministic=True):
        return self.mix(x, deterministic=deterministic)


# Draws, and what is made of them, in other words.


class NoDropout(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dropout(0.0)(nn.Dense(F)(x), deterministic=not train)


class PortNoDropout(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(D, F, rngs=rngs)

    def __call__(self, x):
        return self.dense(x)


class DropPath(nn.Module):
    """A rate for each layer, in a loop."""

    @nn.compact
    def __call__(self, x, train=False):
        for i in range(N):
            y = nn.tanh(nn.Dense(D)(x))
            if train and i:
                keep = 1.0 - 0.1 * i
                y = jnp.where(
                    jax.random.bernoulli(self.make_rng("dropout"), keep, (B, 1)), y / keep, 0.0
                )
            x = x + y
        return x


class PortDropPath(nnx.Module):
    """The rates are an array."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(D, D, rngs=rngs) for _ in range(N)])
        self.rngs = rngs.fork()

    def dropped(self, y, rate):
        keep = 1.0 - rate
        return jnp.where(jax.random.bernoulli(self.rngs.dropout(), keep, (B, 1)), y / keep, 0.0)

    def __call__(self, x, train=False):
        for layer, rate in zip(self.layers, jnp.linspace(0.0, 0.2, N), strict=True):
            y = nnx.tanh(layer(x))
            x = x + (self.dropped(y, rate) if train and layer is not self.layers[0] else y)
        return x


class Mixup(nn.Module):
    @nn.compact
    def __call__(self, x):
        part = jax.random.beta(self.make_rng("mixup"), 0.4, 0.4)
        other = jax.random.permutation(self.make_rng("order"), B)
        return nn.Dense(F)(part * x + (1.0 - part) * x[other])


class PortMixup(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.rngs = nnx.Linear(D, F, rngs=rngs), rngs.fork()

    def __call__(self, x):
        other = jax.random.permutation(self.rngs.order(), B)
        part = jax.random.beta(self.rngs.mixup(), 0.4, 0.4)
        return self.dense(part * x + (1.0 - part) * x[other])


class InRange(nn.Module):
    @nn.compact
    def __call__(self, x):
        factor = jax.random.uniform(self.make_rng("jitter"), x.shape, minval=0.9, maxval=1.1)
        return nn.Dense(F)(x * factor)


class PortInRange(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.rngs = nnx.Linear(D, F, rngs=rngs), rngs.fork()

    def __call__(self, x):
        return self.dense(x * (0.9 + 0.2 * jax.random.uniform(self.rngs.jitter(), x.shape)))


class Sequence(nn.Module):
    @nn.compact
    def __call__(self, x):
        layers = [nn.Dense(F), nn.Dropout(0.1, deterministic=True), nn.relu, nn.Dense(2)]
        return nn.Sequential(layers)(x)


class PortSequence(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.Sequential(
            nnx.Linear(D, F, rngs=rngs),
            nnx.Dropout(0.1, deterministic=True, rngs=rngs),
            nnx.relu,
            nnx.Linear(F, 2, rngs=rngs),
        )

    def __call__(self, x):
        return self.layers(x)


class Halved(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(F, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)(x)
        return nn.Dropout(0.1, deterministic=True)(x)


class PortHalved(nnx.Module):
    def __init__(self, rngs):
        kinds = {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}
        self.dense = nnx.Linear(D, F, rngs=rngs, **kinds)
        self.drop = nnx.Dropout(0.1, deterministic=True, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.dense(x))


class Experts(nn.Module):
    """Drawn as a whole."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", init.lecun_normal(batch_axis=(0,)), (N, D, F))
        return jnp.einsum("bd,edf->ebf", x, w)


class PortExperts(nnx.Module):
    """Drawn one by one, by vmap."""

    def __init__(self, rngs):
        self.each = nnx.vmap(lambda rngs: nnx.Linear(D, F, use_bias=False, rngs=rngs))(
            rngs.split(N)
        )

    def __call__(self, x):
        return nnx.vmap(lambda one, x: one(x), in_axes=(0, None))(self.each, x)


class PortListedExperts(nnx.Module):
    def __init__(self, rngs):
        self.each = nnx.List([nnx.Linear(D, F, use_bias=False, rngs=rngs) for _ in range(N)])

    def __call__(self, x):
        return jnp.stack([one(x) for one in self.each])


class AttentionByHand(PortAttention):
    """One mask for all examples and heads, as Flax has it."""

    def __call__(self, x, deterministic=True):
        query, key, value = self.mix.query(x), self.mix.key(x), self.mix.value(x)
        weights = nnx.softmax(jnp.einsum("bqhk,bmhk->bhqm", query / 2.0, key))
        if not deterministic:
            mask = jax.random.bernoulli(self.mix.rngs(), 0.8, (1, 1, *weights.shape[-2:]))
            weights = weights * mask / 0.8
        return self.mix.out(jnp.einsum("bhqm,bmhk->bqhk", weights, value))


WORDS = {
    "dropout of nothing": Pair(NoDropout(), lambda rngs: PortNoDropout(rngs), X),
    "rates in an array": Pair(DropPath(), lambda rngs: PortDropPath(rngs), X),
    "mixup": Pair(Mixup(), lambda rngs: PortMixup(rngs), X),
    "range by hand": Pair(InRange(), lambda rngs: PortInRange(rngs), X),
    "sequential": Pair(Sequence(), lambda rngs: PortSequence(rngs), X),
    "half precision": Pair(Halved(), lambda rngs: PortHalved(rngs), X),
    "experts by vmap": Pair(Experts(), lambda rngs: PortExperts(rngs), X),
    "experts in a list": Pair(Experts(), lambda rngs: PortListedExperts(rngs), X),
    "attention by hand": Pair(Attention(), lambda rngs: AttentionByHand(rngs), SEQUENCE),
    "heads in results": layouts.HEADS_IN_RESULTS,
    "call by a function": flagged(
        ByArgument,
        linen_call=lambda module, x: module(x, train=False),
        nnx_call=lambda module, x: module(x, train=False),
    ),
    "call by place": flagged(
        ByArgument,
        linen_call=lambda module, x: module(x, False),
        nnx_call=lambda module, x: module(x, False),
    ),
    "masks of each head": Pair(OwnMasks(), lambda rngs: PortOwnMasks(rngs), SEQUENCE),
    "experts and a jitter": routed.PAIR,
    "two towers": towers.PAIR,
    "a codebook that training moves": codebook.PAIR,
    "augmented images": augment.PAIR,
    "what starts as a copy": copies.PAIR,
    "members and examples": replicas.PAIR,
}

PAIRS = {**BLOCKS, **WORDS, **KEYS, **SEVERAL, **STARTS, **STACKS, **NAMES, **TRAINING, **LIFTS}


# Ports of before the method `split` have it.
@pytest.mark.filterwarnings("ignore:The 'split' argument of 'fork':DeprecationWarning")
@pytest.mark.quick(
    "key split",
    "drawn at once",
    "list for a stack",
    "drawn as a whole",
    "train against attributes",
    "batch norm in a scan",
)
@pytest.mark.parametrize("name", PAIRS)
def test_passes(name):
    found = verify(PAIRS[name], samples=1)
    assert found.verdict in PASSES, (found.remark, found.divergence)
    assert not [check for check in found.checks if check.note.startswith("not looked at")]
