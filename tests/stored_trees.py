"""States of both APIs as the leaves of a checkpoint of them, and a reader of them in memory."""

import jax
import numpy as np
import optax
from flax import linen as nn
from flax import nnx
from flax.training import train_state

from shared.checkpoint.stored import Leaf, nothing


def stored(tree):
    """{path: numbers} and {path: Leaf} of a pytree, as Orbax stores it."""
    arrays, leaves = {}, {}
    for keys, value in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_empty)[0]:
        path = tuple(_name(key) for key in keys)
        if _is_empty(value):
            leaves[path] = nothing({dict: "Dict", tuple: "Tuple"}.get(type(value), "None"))
        elif jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            arrays[path] = np.asarray(jax.random.key_data(value))
            impl = str(jax.random.key_impl(value))
            leaves[path] = Leaf(arrays[path].shape, arrays[path].dtype, "key", impl)
        else:
            arrays[path] = np.asarray(value)
            leaves[path] = Leaf(arrays[path].shape, arrays[path].dtype)
    return arrays, leaves


def _is_empty(node):
    return node is None or (isinstance(node, tuple | dict) and not node)


def _name(key):
    """Orbax keeps the numbers of a sequence; those of a dict, as of `nnx.State`, become text."""
    if isinstance(key, jax.tree_util.SequenceKey):
        return key.idx
    return str(getattr(key, "key", getattr(key, "name", None)))


class InMemory:
    """A Reader of numbers and leaves that are `stored`."""

    format, path, location, form, beside = "orbax", "memory", "memory", (), ()

    def __init__(self, arrays, leaves):
        self.arrays, self.leaves = arrays, leaves

    def read(self, path):
        return self.arrays[path]


FEATURES, NUM_LAYERS = 5, 3


class LinenLayers(nn.Module):
    """A list of layers, statistics, masks."""

    def setup(self):
        self.layers = [nn.Dense(FEATURES) for _ in range(NUM_LAYERS)]
        self.norm = nn.BatchNorm(use_running_average=False)
        self.head = nn.Dense(2)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class NnxLayers(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List(
            [nnx.Linear(FEATURES, FEATURES, rngs=rngs) for _ in range(NUM_LAYERS)]
        )
        self.norm = nnx.BatchNorm(FEATURES, rngs=rngs)
        self.head = nnx.Linear(FEATURES, 2, rngs=rngs)


class LinenStack(nn.Module):
    """A stack along an axis."""

    axis: int = 0
    features: int = FEATURES

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            _LinenLayer,
            variable_axes={"params": self.axis},
            split_rngs={"params": True},
            length=NUM_LAYERS,
        )
        x, _ = scan(self.features, name="layers")(x, None)
        return nn.Dense(2, name="head")(x)


class _LinenLayer(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(self.features, name="dense")(x), None


class NnxStack(nnx.Module):
    def __init__(self, rngs, axis=0, features=FEATURES):
        @nnx.vmap(in_axes=0, out_axes=axis)
        def layers(rngs):
            return _NnxLayer(features, rngs)

        self.layers = layers(rngs.split(NUM_LAYERS))
        self.head = nnx.Linear(features, 2, rngs=rngs)


class _NnxLayer(nnx.Module):
    def __init__(self, features, rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)


class LinenState(train_state.TrainState):
    batch_stats: dict
    key: jax.Array


def linen_state(model, optimizer, num_steps=2):
    """A TrainState after some steps, so that no moment is zero."""
    features = getattr(model, "features", FEATURES)
    rng = np.random.default_rng(0)
    variables = model.init(jax.random.key(0), np.ones((4, features), np.float32))
    state = LinenState.create(
        apply_fn=model.apply,
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        tx=optimizer,
        key=jax.random.key(3),
    )
    step = jax.jit(lambda state, grads: state.apply_gradients(grads=grads))
    for _ in range(num_steps):
        grads = jax.tree.map(lambda p: rng.standard_normal(p.shape, p.dtype), state.params)
        state = step(state, grads)
    return state.replace(step=jax.numpy.int32(state.step))


class NnxState(nnx.Module):
    def __init__(self, model, optimizer):
        self.model = model
        self.optimizer = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
        self.key = nnx.RngKey(jax.random.key(3), tag="dropout")


def nnx_state(model, optimizer):
    return nnx.state(NnxState(model, optimizer))


def is_kernel(params):
    """By name: the bias of a stack has two axes as well."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, _: "kernel" in jax.tree_util.keystr(keys), params
    )


def labels(params):
    return jax.tree.map(lambda kernel: "kernels" if kernel else "others", is_kernel(params))


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(1e-3),
    "clipped adamw": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
    "schedule": optax.adamw(optax.cosine_decay_schedule(1e-3, 10)),
    "accumulated": optax.MultiSteps(
        optax.adamw(1e-3), every_k_schedule=2
    ).gradient_transformation(),
    "masked": optax.chain(optax.adam(1e-3), optax.masked(optax.trace(0.9), is_kernel)),
    "by label": optax.multi_transform(
        {"kernels": optax.adam(1e-3), "others": optax.sgd(0.1, momentum=0.9)}, labels
    ),
    "hyperparams": optax.inject_hyperparams(optax.adamw)(learning_rate=1e-3),
    "average": optax.chain(optax.adam(1e-3), optax.ema(0.9)),
    "nested": optax.chain(
        optax.chain(optax.clip(1.0), optax.chain(optax.scale_by_adam())), optax.scale(-1)
    ),
    "adafactor": optax.adafactor(1e-3, min_dim_size_to_factor=4),
}
