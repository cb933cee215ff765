"""Orbax checkpoints of every form, as users write them, and what a reader should make of them."""

import json

import flax.training.checkpoints
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from orbax.checkpoint import v1

from shared.checkpoint.formats.orbax import open_orbax, write_orbax
from shared.checkpoint.stored import Leaf, nothing

# Of each kind of leaf one, of each kind of container one.
KEY, KEYS = jax.random.key(3), jax.random.split(jax.random.key(4, impl="rbg"), 3)
TREE = {
    "params": {
        "kernel": jnp.arange(12, dtype=jnp.float32).reshape(3, 4),
        "0": jnp.asarray([1, -2, 7], ml_dtypes.int4),
    },
    "list": [jnp.ones(2, jnp.bfloat16), (jnp.asarray(3, jnp.int32),)],
    "numpy": np.arange(5, dtype=np.float64),
    "float8": jnp.asarray([0.5, 2], jnp.float8_e4m3fn),
    "raw": jax.random.PRNGKey(1),
    "key": KEY,
    "keys": KEYS,
    "step": 3,
    "rate": 2.5,
    "flag": True,
    "nothing": None,
    "dict": {},
    "empty": [],
}


def leaf(array, kind="array"):
    array = np.asarray(array)
    return Leaf(array.shape, array.dtype, kind), array


def key(keys):
    array = np.asarray(jax.random.key_data(keys))
    return Leaf(array.shape, array.dtype, "key", str(jax.random.key_impl(keys))), array


LEAVES = {
    ("params", "kernel"): leaf(TREE["params"]["kernel"]),
    ("params", "0"): leaf(TREE["params"]["0"]),
    ("list", 0): leaf(TREE["list"][0]),
    ("list", 1, 0): leaf(TREE["list"][1][0]),
    ("numpy",): leaf(TREE["numpy"], "numpy"),
    ("float8",): leaf(TREE["float8"]),
    ("raw",): leaf(TREE["raw"]),
    ("key",): key(KEY),
    ("keys",): key(KEYS),
    ("step",): leaf(3, "scalar"),
    ("rate",): leaf(2.5, "scalar"),
    ("flag",): leaf(True, "scalar"),
    ("nothing",): (nothing("None"), None),
    ("dict",): (nothing("Dict"), None),
    ("empty",): (nothing("List"), None),
}


def save_flat(path, tree=TREE, **options):
    """As `StandardCheckpointer` does, or `PyTreeCheckpointer` where it is given options."""
    if options:
        handler, args = ocp.PyTreeCheckpointHandler(**options), ocp.args.PyTreeSave(tree)
    else:
        handler, args = ocp.StandardCheckpointHandler(), ocp.args.StandardSave(tree)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(path, args=args)


def save_steps(path, steps, items=("state",), tree=TREE):
    """As `CheckpointManager` does, with a JSON item beside."""
    with ocp.CheckpointManager(path) as manager:
        for step in steps:
            arrays = {item: ocp.args.StandardSave(tree) for item in items}
            manager.save(step, args=ocp.args.Composite(**arrays, run=ocp.args.JsonSave({"a": 1})))
            manager.wait_until_finished()


def save_v1(path, tree=TREE):
    v1.save(path, tree)


def save_legacy(path, steps=(3,), tree=TREE):
    """As `flax.training.checkpoints` does."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        for step in steps:
            flax.training.checkpoints.save_checkpoint(
                path, tree, step, keep=9, orbax_checkpointer=checkpointer
            )


def write(path, expected):
    """Writes leaves and numbers as `LEAVES` has them."""
    leaves = {leaf_path: leaf for leaf_path, (leaf, _) in expected.items()}
    write_orbax(str(path), leaves, lambda leaf_path: expected[leaf_path][1])


def assert_leaves(path, expected=LEAVES, step=None):
    """A checkpoint has the leaves that are expected, bit for bit, whole and in parts."""
    reader = open_orbax(str(path), step)
    assert dict(reader.leaves) == {path: each for path, (each, _) in expected.items()}
    for path, (each, array) in expected.items():
        if each.kind != "empty":
            found = reader.read(path)
            assert (found.shape, found.dtype) == (each.shape, each.dtype), path
            assert found.flags.c_contiguous, path
            assert found.tobytes() == array.tobytes(), path
            assert b"".join(part.tobytes() for part in reader.parts(path)) == found.tobytes(), path
    return reader


def edit_metadata(directory, change):
    """Changes the tree that `_METADATA` holds."""
    file = directory / "_METADATA"
    found = json.loads(file.read_text())
    change(found["tree_metadata"])
    file.write_text(json.dumps(found))


def database(directory):
    """The values of a checkpoint by their keys."""
    return ts.KvStore.open({"driver": "ocdbt", "base": f"file://{directory}/"}).result()


def edit_header(directory, name, version=2, **changes):
    """Changes the header of an array in the database."""
    store = database(directory)
    key = f"{name}/{'zarr.json' if version == 3 else '.zarray'}"
    found = json.loads(store[key])
    store[key] = json.dumps(found | changes).encode()
