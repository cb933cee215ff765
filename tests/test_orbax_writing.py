"""What is written as an Orbax checkpoint is read again as it was, by all of Orbax's interfaces."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from flax import nnx
from flax.training import train_state
from orbax.checkpoint import v1
from orbax_files import LEAVES, TREE, assert_leaves, save_flat, write

from shared.checkpoint.formats.orbax import open_orbax, write_orbax


def same(tree, other):
    """Two trees are of one structure, and their leaves of one type and the same bits."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for one, two in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert type(one) is type(two)
        if isinstance(one, jax.Array) and jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            assert str(jax.random.key_impl(one)) == str(jax.random.key_impl(two))
            one, two = jax.random.key_data(one), jax.random.key_data(two)
        assert np.asarray(one).dtype == np.asarray(two).dtype
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


def test_every_kind_of_leaf_is_read_again(tmp_path):
    write(tmp_path / "a", LEAVES)
    assert list(open_orbax(str(tmp_path / "a")).leaves) == list(LEAVES)
    assert_leaves(tmp_path / "a")


LOADS = {
    "StandardCheckpointer": lambda path: ocp.StandardCheckpointer().restore(path),
    "PyTreeCheckpointer": lambda path: ocp.PyTreeCheckpointer().restore(path),
    "v1": v1.load,
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
def test_orbax_loads_what_it_would_have_saved(tmp_path, load):
    save_flat(tmp_path / "orbax")
    write(tmp_path / "ours", LEAVES)
    same(LOADS[load](tmp_path / "ours"), LOADS[load](tmp_path / "orbax"))


def test_orbax_says_the_same_of_it(tmp_path):
    """Its metadata: shapes, dtypes and where each leaf would lie."""
    tree, leaves = dict(TREE), dict(LEAVES)
    # Of a boolean of Python, Orbax has no metadata.
    del tree["flag"], leaves["flag",]
    save_flat(tmp_path / "orbax", tree)
    write(tmp_path / "ours", leaves)
    ours, theirs = (v1.metadata(tmp_path / name).metadata for name in ("ours", "orbax"))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    describe = lambda leaf: str((leaf.shape, leaf.dtype, getattr(leaf, "sharding", None)))  # noqa: E731
    is_array = lambda leaf: hasattr(leaf, "shape")  # noqa: E731
    for one, two in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert type(one) is type(two)
        if is_array(one):
            assert describe(one) == describe(two)


def test_a_manager_loads_it_as_an_item(tmp_path):
    (tmp_path / "run" / "300").mkdir(parents=True)
    write(tmp_path / "run" / "300" / "state", LEAVES)
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(TREE))
        assert manager.latest_step() == 300
        same(manager.restore(300, args=args).state, TREE)


def test_it_restores_into_a_train_state(tmp_path):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.Dense(4)(x))

    def state():
        params = Model().init(jax.random.key(0), jnp.ones((1, 2)))["params"]
        chain = optax.chain(optax.clip(1.0), optax.adamw(1e-3))
        return train_state.TrainState.create(apply_fn=None, params=params, tx=chain)

    saved = jax.jit(state)()
    _copied(saved, tmp_path)
    target = jax.eval_shape(state)
    same(_restored(tmp_path / "ours", target), saved)


def test_it_restores_into_a_state_of_nnx(tmp_path):
    def model():
        rngs = nnx.Rngs(0, dropout=1)
        return nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.Dropout(0.1, rngs=rngs))

    state = nnx.state(model())
    _copied(state, tmp_path)
    target = nnx.state(nnx.eval_shape(model))
    same(_restored(tmp_path / "ours", target), state)


def _copied(tree, folder):
    save_flat(folder / "orbax", tree)
    reader = open_orbax(str(folder / "orbax"))
    write_orbax(str(folder / "ours"), reader.leaves, reader.read)


def _restored(path, like):
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), like
    )
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, like)
