"""Writes checkpoints with the Flax that it runs under: flax_VERSION.tar.gz and .json, beside it.

Those here are of these four; a new one is made in the same way. Each takes a minute:

    python3.11 -m venv venv
    venv/bin/pip install flax==0.8.5 orbax-checkpoint==0.6.4 jax==0.4.34 jaxlib==0.4.34
    venv/bin/pip install flax==0.10.4 orbax-checkpoint==0.11.5 jax==0.5.1 jaxlib==0.5.1
    venv/bin/pip install flax==0.12.0 orbax-checkpoint==0.11.28 jax==0.8.0 jaxlib==0.8.0
    venv/bin/pip install flax==0.12.8 orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2
    JAX_PLATFORMS=cpu venv/bin/python tests/golden/make.py

The JSON has of each checkpoint all leaves: path, shape, dtype and the SHA-256 of the numbers in C's
order, little endian, as they were in memory; of a typed key those of `jax.random.key_data`.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import tarfile
import tempfile

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx, serialization
from flax.training import checkpoints, train_state

VERSION = tuple(map(int, importlib.metadata.version("flax").split(".")))
# Orbax could not save typed keys before.
HAS_TYPED_KEYS = VERSION >= (0, 12)
# An optimizer held its model before.
OPTIMIZER_IS_APART = VERSION >= (0, 11)
FEATURES, LAYERS, STEPS = 3, 2, 3
X = np.random.default_rng(0).standard_normal((4, FEATURES)).astype(np.float32)


class Block(nn.Module):
    """A layer with statistics and noise."""

    @nn.compact
    def __call__(self, x, _):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(FEATURES)(x))
        return nn.Dropout(0.1, deterministic=False)(nn.tanh(x)), None


class Model(nn.Module):
    """A stack of them, scanned, and a head in half precision."""

    @nn.compact
    def __call__(self, x):
        axes = {"params": 0, "batch_stats": 0}
        rngs = {"params": True, "dropout": True}
        stack = nn.scan(Block, variable_axes=axes, split_rngs=rngs, length=LAYERS)
        x, _ = stack(name="layers")(x, None)
        return nn.Dense(1, param_dtype=jnp.bfloat16, name="head")(x)


class TrainState(train_state.TrainState):
    """With statistics, and the key of the noise in numbers."""

    batch_stats: dict
    rng: jax.Array


def optimizer():
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))


def trained_linen():
    """A state after some steps, so that no moment is zero; `step` is a number of Python."""
    model, key = Model(), jax.random.PRNGKey(0)
    variables = model.init({"params": key, "dropout": key}, X)
    state = TrainState.create(
        apply_fn=model.apply,
        params=variables["params"],
        tx=optimizer(),
        batch_stats=variables["batch_stats"],
        rng=key,
    )

    def loss(params, state, rng):
        variables = {"params": params, "batch_stats": state.batch_stats}
        y, new = model.apply(variables, X, mutable=["batch_stats"], rngs={"dropout": rng})
        return jnp.mean(y.astype(jnp.float32) ** 2), new["batch_stats"]

    for _ in range(STEPS):
        rng, key = jax.random.split(state.rng)
        grads, stats = jax.grad(loss, has_aux=True)(state.params, state, key)
        state = state.apply_gradients(grads=grads, batch_stats=stats, rng=rng)
    return state


class NnxBlock(nnx.Module):
    """The same layer."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(FEATURES, FEATURES, rngs=rngs)
        self.norm = nnx.BatchNorm(FEATURES, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        return self.dropout(nnx.tanh(self.norm(self.linear(x))))


class NnxModel(nnx.Module):
    """The same stack, with each leaf stacked as `nnx.vmap` of the constructor does it."""

    def __init__(self, rngs):
        parts = [nnx.split(NnxBlock(rngs)) for _ in range(LAYERS)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for _, state in parts))
        self.layers = nnx.merge(parts[0][0], stacked)
        self.head = nnx.Linear(FEATURES, 1, param_dtype=jnp.bfloat16, rngs=rngs)

    def __call__(self, x):
        graphdef, state = nnx.split(self.layers)

        def layer(x, state):
            block = nnx.merge(graphdef, state)
            return block(x), nnx.state(block)

        x, state = jax.lax.scan(layer, x, state)
        nnx.update(self.layers, state)
        return self.head(x)


def trained_nnx():
    """A model and its optimizer after some steps."""
    model = NnxModel(nnx.Rngs(0))
    model.train()
    if OPTIMIZER_IS_APART:
        optim = nnx.Optimizer(model, optimizer(), wrt=nnx.Param)
    else:
        optim = nnx.Optimizer(model, optimizer())

    graphdef = nnx.split(model)[0]

    def loss(params, rest):
        # A new Flax refuses to write to variables that were made outside of the gradient.
        model = nnx.merge(graphdef, params, jax.tree.map(lambda leaf: leaf, rest))
        y = model(X)
        return jnp.mean(y.astype(jnp.float32) ** 2), nnx.state(model, nnx.Not(nnx.Param))

    for _ in range(STEPS):
        grads, rest = jax.grad(loss, has_aux=True)(*nnx.split(model, nnx.Param, ...)[1:])
        nnx.update(model, rest)
        optim.update(*([model] if OPTIMIZER_IS_APART else []), grads)
    return model, optim


def as_saved(state):
    """A state as this version can save it: its keys in numbers where typed ones cannot be."""
    return state if HAS_TYPED_KEYS else jax.tree.map(numbers, state)


def numbers(leaf):
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def save_standard(path, state):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, state)


def save_managed(path, states):
    with ocp.CheckpointManager(path) as manager:
        for step, state in states.items():
            manager.save(step, args=ocp.args.StandardSave(state))


def save_legacy(path, state, with_orbax):
    flax.config.update("flax_use_orbax_checkpointing", with_orbax)
    checkpoints.save_checkpoint(path, state, STEPS)


def save_v1(path, state):
    """By the API that is to be Orbax's only one."""
    from orbax.checkpoint.experimental import v1

    (v1.save if hasattr(v1, "save") else v1.save_pytree)(path, state)


def write(folder):
    """Writes the checkpoints; gives what is in each."""
    linen, (model, optim) = trained_linen(), trained_nnx()
    stepped = linen.replace(step=jnp.asarray(STEPS))
    state, optim_state = as_saved(nnx.state(model)), as_saved(nnx.state(optim))
    save_standard(folder / "linen_standard", linen)
    save_managed(folder / "linen_managed", {2: linen.params, 3: stepped})
    save_legacy(folder / "linen_legacy", linen, False)
    save_legacy(folder / "linen_legacy_orbax", stepped, True)
    (folder / "linen_params.msgpack").write_bytes(serialization.to_bytes(linen.params))
    save_standard(folder / "nnx_model", state)
    save_standard(folder / "nnx_optimizer", optim_state)
    save_managed(folder / "nnx_managed", {3: state})
    legacy = serialization.to_state_dict(linen)
    trees = {
        "linen_standard": linen,
        "linen_managed/2": linen.params,
        "linen_managed/3": stepped,
        "linen_legacy": legacy,
        "linen_legacy_orbax": stepped,
        "linen_params.msgpack": linen.params,
        "nnx_model": state,
        "nnx_optimizer": optim_state,
        "nnx_managed": state,
    }
    if OPTIMIZER_IS_APART:
        both = {"model": state, "optimizer": optim_state}
        save_standard(folder / "nnx_both", both)
        trees["nnx_both"] = both
    if HAS_TYPED_KEYS:
        keys = {"threefry": jax.random.key(7), "rbg": jax.random.key(7, impl="rbg")}
        save_standard(folder / "typed_keys", keys)
        save_v1(folder / "linen_v1", stepped)
        trees |= {"typed_keys": keys, "linen_v1": stepped}
    return trees


def leaves_of(tree):
    """Of each leaf what is known of it, by its path, as Orbax and msgpack name it."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.asarray(numbers(leaf))
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        leaves["/".join(map(name, path))] = [list(array.shape), array.dtype.name, digest]
    return leaves


def name(key):
    """What a key of JAX's is called in a checkpoint."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    raise ValueError(key)


def main():
    here = pathlib.Path(__file__).parent
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        document = {
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("flax", "orbax-checkpoint", "jax", "optax", "numpy")
            },
            "checkpoints": {at: leaves_of(tree) for at, tree in write(folder).items()},
        }
        with tarfile.open(here / f"flax_{flax.__version__}.tar.gz", "w:gz") as archive:
            for path in sorted(folder.rglob("*")):
                about = archive.gettarinfo(path, str(path.relative_to(folder)))
                about.uid = about.gid = about.mtime = 0
                about.uname = about.gname = ""
                if about.isreg():
                    with path.open("rb") as file:
                        archive.addfile(about, file)
                else:
                    archive.addfile(about)
    # A leaf to a line.
    text = json.dumps(document).replace('"], "', '"],\n"').replace('{"', '{\n"')
    (here / f"flax_{flax.__version__}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
