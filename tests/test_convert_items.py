"""A state of training in items of its own, as a `CheckpointManager` saves them, is one state."""

import os

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from stored_trees import LinenLayers, NnxLayers, linen_state

from shared.checkpoint.compare import compare
from shared.checkpoint.convert import convert
from shared.checkpoint.formats.orbax import open_orbax
from shared.checkpoint.options import Options
from shared.errors import FileAccessError, InputError

ADAM = optax.adamw(1e-3)


def save_items(path, items, steps=(3,)):
    """Each in an item, and a JSON beside them."""
    run = ocp.args.JsonSave({"loss": 0.5})
    with ocp.CheckpointManager(path) as manager:
        for step in steps:
            args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
            manager.save(step, args=ocp.args.Composite(**args, run=run))
            manager.wait_until_finished()


def linen_items():
    state = linen_state(LinenLayers(), ADAM)
    return {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "opt_state": state.opt_state,
        "rngs": {"dropout": jax.random.key(3)},
        "progress": {"epoch": jnp.int32(4)},
    }


def nnx_items():
    model = NnxLayers(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, ADAM, wrt=nnx.Param)
    return {"model": nnx.state(model), "optimizer": nnx.state(optimizer)}


@pytest.mark.parametrize(
    ("items", "there"),
    [
        (linen_items, {"model", "optimizer", "rngs", "progress"}),
        (nnx_items, {"params", "batch_stats", "opt_state", "step"}),
    ],
    ids=["linen", "nnx"],
)
def test_they_go_there_and_back_as_one(items, there, tmp_path):
    save_items(tmp_path / "source", items())
    notes = []
    convert(tmp_path / "source", tmp_path / "there", told=notes.append)
    names = ", ".join(sorted(items()))
    assert any(f"the items {names} become one" in note for note in notes)
    lacks_step = any("has no optimizer/step" in note for note in notes)
    assert lacks_step == (items is linen_items)
    assert (tmp_path / "there" / "3" / "run" / "metadata").exists()
    with ocp.CheckpointManager(tmp_path / "there") as manager:
        assert manager.restore(3)["state"].keys() == there
    convert(tmp_path / "there", tmp_path / "back")
    found = compare((tmp_path / "back", tmp_path / "source"))
    assert {row.status for row in found.rows} == {"equal"}
    stored = open_orbax(str(tmp_path / "source")).leaves.values()
    assert len(found.rows) == sum(leaf.kind != "empty" for leaf in stored)
    os.unlink(tmp_path / "there" / "3" / "state" / "MANIFEST.json")
    convert(tmp_path / "there", tmp_path / "by rule")
    assert compare((tmp_path / "by rule", tmp_path / "source")).is_equal


def test_what_is_converted_of_them_is_what_one_item_makes(tmp_path):
    save_items(tmp_path / "several", linen_items())
    save_items(tmp_path / "one", {"state": linen_items()})
    for name in ("several", "one"):
        convert(tmp_path / name, tmp_path / f"{name} in nnx")
    assert compare((tmp_path / "several in nnx", tmp_path / "one in nnx")).is_equal


def test_one_of_them_is_converted_where_its_path_is_given(tmp_path):
    save_items(tmp_path / "source", linen_items())
    item = tmp_path / "source" / "3" / "params"
    convert(item, tmp_path / "there", Options(direction="linen_to_nnx"))
    assert {path[0] for path in open_orbax(str(tmp_path / "there")).leaves} == {
        "layers",
        "norm",
        "head",
    }


def test_a_step_of_them_is_chosen(tmp_path):
    save_items(tmp_path / "source", linen_items(), steps=(3, 4))
    with pytest.raises(InputError, match="several steps, 3, 4; choose one with --step=4"):
        convert(tmp_path / "source", tmp_path / "there")
    convert(tmp_path / "source", tmp_path / "there", Options(step=4))
    assert os.listdir(tmp_path / "there") == ["4"]


def test_two_models_are_not_one_state(tmp_path):
    save_items(tmp_path / "source", {"ema": {"a": jnp.ones(2)}, "state": linen_items()})
    with pytest.raises(InputError, match="several items, ema, state; give the path of one of them"):
        convert(tmp_path / "source", tmp_path / "there")


def test_one_array_is_an_item_of_its_own(tmp_path):
    items = {**linen_items(), "step": {"step": jnp.int32(9)}}
    del items["rngs"], items["progress"]
    save_items(tmp_path / "source", items)
    convert(tmp_path / "source", tmp_path / "there")
    leaves = open_orbax(str(tmp_path / "there")).leaves
    assert ("optimizer", "step", "value") in leaves


def test_a_step_that_is_saved_as_an_array(tmp_path):
    items = {name: linen_items()[name] for name in ("params", "opt_state")}
    args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
    with ocp.CheckpointManager(tmp_path / "source") as manager:
        manager.save(3, args=ocp.args.Composite(**args, step=ocp.args.ArraySave(jnp.int32(9))))
    convert(tmp_path / "source", tmp_path / "there")
    with ocp.CheckpointManager(tmp_path / "there") as manager:
        assert manager.restore(3)["state"]["optimizer"]["step"]["value"] == 9


def test_an_item_without_an_array_is_whole(tmp_path):
    """Orbax makes no database for it."""
    params = linen_items()["params"]
    save_items(tmp_path / "source", {"params": params, "opt_state": optax.sgd(0.1).init(params)})
    convert(tmp_path / "source", tmp_path / "there")
    convert(tmp_path / "there", tmp_path / "back")
    assert compare((tmp_path / "back", tmp_path / "source")).is_equal


def test_what_a_step_says_of_itself_goes_along(tmp_path):
    items = nnx_items()
    args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
    with ocp.CheckpointManager(tmp_path / "source") as manager:
        run = ocp.args.JsonSave({"loss": 0.5})
        manager.save(
            3, args=ocp.args.Composite(**args, run=run), custom_metadata={"tokenizer": "abc"}
        )
    convert(tmp_path / "source", tmp_path / "there")
    with ocp.CheckpointManager(tmp_path / "there") as manager:
        assert manager.metadata(3).custom_metadata == {"tokenizer": "abc"}
        found = manager.restore(3)
    assert found.keys() == {"state", "run"}
    assert found["run"] == {"loss": 0.5}


def test_what_a_manager_says_of_its_run_goes_along(tmp_path):
    said = {"data": "books"}
    with ocp.CheckpointManager(tmp_path / "source", metadata=said) as manager:
        manager.save(3, args=ocp.args.StandardSave(linen_items()["params"]))
    convert(tmp_path / "source", tmp_path / "there", Options(direction="linen_to_nnx"))
    with ocp.CheckpointManager(tmp_path / "there") as manager:
        assert manager.metadata().custom_metadata == said
    os.rename(tmp_path / "source" / "metadata", tmp_path / "metadata")
    os.symlink(tmp_path / "metadata", tmp_path / "source" / "metadata")
    with pytest.raises(InputError, match=r"source/metadata: is a symbolic link, which is not foll"):
        convert(tmp_path / "source", tmp_path / "again", Options(direction="linen_to_nnx"))
    assert not (tmp_path / "again").exists()


def test_one_step_after_another_gets_beside_those_that_are_there(tmp_path):
    source, target = tmp_path / "a source", tmp_path / "there"
    save_items(source, nnx_items(), steps=(3, 10))
    convert(source, target, Options(step=3))
    with pytest.raises(FileAccessError) as refused:
        convert(source, target, Options(step=10))
    assert str(refused.value) == (
        f"{target}: is there already, with other steps; 10 gets beside them without --step, by "
        f"'--source_path={source}/10' --target_path={target}/10"
    )
    convert(source / "10", target / "10")
    with ocp.CheckpointManager(target) as manager:
        assert manager.all_steps() == [3, 10]
        assert manager.restore(10)["state"].keys() == manager.restore(3)["state"].keys()
    with pytest.raises(FileAccessError, match="there: is there already; choose another target"):
        convert(source, target, Options(step=10))


def test_folders_that_are_no_steps_are_none(tmp_path):
    save_items(tmp_path / "source", nnx_items(), steps=(3, 10))
    (tmp_path / "there" / "run_1").mkdir(parents=True)
    with pytest.raises(FileAccessError, match="there: is there already; choose another target"):
        convert(tmp_path / "source", tmp_path / "there", Options(step=10))
    convert(tmp_path / "source", tmp_path / "steps", Options(step=3))
    with pytest.raises(FileAccessError, match="steps: is there already; choose another target"):
        convert(tmp_path / "source", tmp_path / "steps", Options(step=10, format="safetensors"))
