"""What a conversion would write is what the other API has, leaf by leaf, for any optimizer."""

import functools

import numpy as np
import pytest
from flax import nnx
from stored_trees import (
    NUM_LAYERS,
    OPTIMIZERS,
    InMemory,
    LinenLayers,
    LinenStack,
    NnxLayers,
    NnxStack,
    linen_state,
    nnx_state,
    stored,
)

from shared.checkpoint.planning.making import Making
from shared.checkpoint.planning.plan import plan_of
from shared.checkpoint.planning.rules import map_by_rule
from shared.checkpoint.stored import Leaf
from shared.checkpoint.tree.layers import Layout
from shared.checkpoint.tree.recognised import roles_of
from shared.errors import InputError
from shared.files.digest import sha256_of

# The states are made once.
pytestmark = pytest.mark.xdist_group("conversion plan")
KEEP = Layout()
MODELS = {
    "layers": (LinenLayers, NnxLayers),
    "stack": (LinenStack, NnxStack),
}


def planned(leaves, layout=KEEP, api=None):
    roles = roles_of(leaves, "source", api)
    weights = map_by_rule(roles, leaves, layout, "source")
    return plan_of(roles, leaves, weights, "value", "source")


def leaves_of(plan):
    return {path: made.leaf for path, made in plan.items()}


def without_empty(leaves):
    return {path: leaf for path, leaf in leaves.items() if leaf.kind != "empty"}


@functools.cache
def states(model, optimizer):
    linen, port = MODELS[model]
    return (
        stored(linen_state(linen(), OPTIMIZERS[optimizer])),
        stored(nnx_state(port(nnx.Rngs(0)), OPTIMIZERS[optimizer])),
    )


@pytest.mark.in_turn("model")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_written_is_what_nnx_has(model, optimizer):
    (_, linen), (_, expected) = states(model, optimizer)
    assert leaves_of(planned(linen)) == expected


@pytest.mark.in_turn
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_written_is_what_linen_has(model, optimizer):
    (_, expected), (_, port) = states(model, optimizer)
    made = leaves_of(planned(port))
    assert without_empty(made) == without_empty(expected)
    # Those at the end of a chain have left no trace in NNX.
    assert made.keys() <= expected.keys()


def moved(arrays, leaves, plan):
    """The numbers of a target, as they would be stored."""
    making = Making(plan, InMemory(arrays, leaves), None)
    made = {path: making.read(path) for path, each in plan.items() if each.pieces}
    assert all(made[path].dtype == plan[path].leaf.dtype for path in made)
    assert {path: sha256_of(array) for path, array in made.items()} == making.made_sha256
    return made, leaves_of(plan)


def assert_same_bits(made, expected):
    assert made.keys() == expected.keys()
    for path in expected:
        np.testing.assert_array_equal(made[path], expected[path], strict=True, err_msg=str(path))


@pytest.mark.in_turn("model")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_there_and_back_by_rule_is_the_same(model, optimizer):
    (arrays, leaves), _ = states(model, optimizer)
    port = moved(arrays, leaves, planned(leaves))
    back, _ = moved(*port, planned(port[1]))
    assert_same_bits(back, arrays)


AXES = [0, 1, -1]


@pytest.mark.parametrize("axis", AXES)
def test_layers_are_stacked_and_parted_with_their_moments(axis):
    arrays, leaves = stored(linen_state(LinenLayers(), OPTIMIZERS["clipped adamw"]))
    port = moved(arrays, leaves, planned(leaves, Layout("stacked", axis)))
    for tree in (("model",), ("optimizer", "opt_state", "1", "0", "nu")):
        root = ("params",) if tree == ("model",) else ("opt_state", 1, 0, "nu")
        expected = [arrays[*root, f"layers_{i}", "kernel"] for i in range(NUM_LAYERS)]
        stacked = port[0][*tree, "layers", "kernel", "value"]
        np.testing.assert_array_equal(stacked, np.stack(expected, axis))
    back, _ = moved(*port, planned(port[1], Layout("unstacked", axis)))
    assert_same_bits(back, arrays)


@pytest.mark.parametrize("axis", AXES)
def test_a_stack_of_linen_is_parted_into_a_list_of_nnx(axis):
    optimizer = OPTIMIZERS["clipped adamw"]
    arrays, leaves = stored(linen_state(LinenStack(axis), optimizer))
    port = moved(arrays, leaves, planned(leaves, Layout("unstacked", axis)))
    kernel = arrays["params", "layers", "dense", "kernel"]
    for i in range(NUM_LAYERS):
        layer = port[0]["model", "layers", str(i), "dense", "kernel", "value"]
        np.testing.assert_array_equal(layer, np.take(kernel, i, axis))
    back, _ = moved(*port, planned(port[1], Layout("stacked", axis)))
    assert_same_bits(back, arrays)


def refused(leaves, layout=KEEP, api=None):
    with pytest.raises(InputError) as error:
        planned(leaves, layout, api)
    assert "\n" not in str(error.value)
    return str(error.value)


def params(**shapes):
    """{path: Leaf} of Linen's params, `_` between the names: a__b is a/b."""
    return {
        ("params", *name.split("__")): Leaf(shape, np.dtype(np.float32))
        for name, shape in shapes.items()
    }


def test_moments_that_depend_on_the_layout_are_refused_where_it_changes():
    _, leaves = stored(linen_state(LinenLayers(), OPTIMIZERS["adafactor"]))
    said = refused(leaves, Layout("stacked"))
    assert "v_row/layers_0/" in said
    assert "its param" in said


def test_a_stack_that_is_left_out_in_part_is_refused():
    _, leaves = stored(linen_state(LinenLayers(), OPTIMIZERS["momentum"]))
    del leaves["opt_state", 0, "trace", "layers_1", "kernel"]
    said = refused(leaves, Layout("stacked"))
    assert "params/layers_1/kernel" in said


def test_a_gap_between_layers_is_refused():
    said = refused(params(layers_0__w=(2,), layers_2__w=(2,)))
    assert "layers_1 is missing" in said


def test_a_number_that_is_none_of_a_list_takes_no_memory():
    said = refused(params(layers_0__w=(2,), layers_999999999__w=(2,)))
    assert "layers_1 is missing" in said
    state = {("opt_state", "999999999", "count"): Leaf((), np.dtype(np.int32))}
    step = {("step",): Leaf((), np.dtype(np.int32))}
    leaves = {("model", "w", "value"): Leaf((2,), np.dtype(np.float32))}
    leaves |= {("optimizer", *path, "value"): leaf for path, leaf in (state | step).items()}
    assert state.keys() < planned(leaves).keys()


def test_ten_and_more_layers_are_in_the_order_of_their_numbers():
    for length in (9, 10, 11, 100, 101):
        leaves = params(**{f"layers_{i}__w": (2,) for i in range(length)})
        arrays = {path: np.full(2, int(path[1][7:]), np.float32) for path in leaves}
        made, _ = moved(arrays, leaves, planned(leaves, Layout("stacked")))
        np.testing.assert_array_equal(made["layers", "w", "value"][:, 0], np.arange(length))


def test_layers_that_are_not_alike_are_kept_and_not_stacked():
    leaves = params(layers_0__w=(2,), layers_0__b=(1,), layers_1__w=(2,))
    assert ("layers", "0", "b", "value") in planned(leaves)
    assert "layer 0 has params/b, layer 1 has not" in refused(leaves, Layout("stacked"))
    leaves = params(layers_0__w=(2,), layers_1__w=(3,))
    assert "params/w is (2,) float32 in layer 0, (3,)" in refused(leaves, Layout("stacked"))


def test_a_list_of_one_may_be_a_name():
    assert "block_0 may be" in refused(params(block_0__w=(2,)))


def test_names_that_linen_gives_are_kept():
    leaves = params(Dense_0__kernel=(2, 2), Dense_1__kernel=(2, 2), conv_1__w=(2,), conv_2__w=(2,))
    assert {path[0] for path in planned(leaves)} == {"Dense_0", "Dense_1", "conv_1", "conv_2"}


def test_two_lists_are_named_and_one_is_chosen():
    leaves = params(
        encoder__layers_0__w=(2,),
        encoder__layers_1__w=(2,),
        decoder__layers_0__w=(2,),
        decoder__layers_1__w=(2,),
    )
    said = refused(leaves, Layout("stacked"))
    assert "decoder/layers, encoder/layers" in said
    assert "--layers=" in said
    made = planned(leaves, Layout("stacked", stack="encoder/layers"))
    assert made["encoder", "layers", "w", "value"].leaf.shape == (2, 2)
    assert made["decoder", "layers", "0", "w", "value"].leaf.shape == (2,)


def test_an_axis_of_layers_that_may_be_two_is_to_be_said():
    leaves = params(layers__kernel=(4, 4, 4), layers__bias=(4, 4))
    assert "--param_scan_axis" in refused(leaves, Layout("unstacked"))
    made = planned(leaves, Layout("unstacked", 1))
    assert made["layers", "3", "kernel", "value"].leaf.shape == (4, 4)


def test_layers_that_are_no_stack_are_refused():
    leaves = params(layers__kernel=(3, 4, 4), layers__bias=(4,))
    assert "none that can be told" in refused(leaves, Layout("unstacked"))


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        (7, "--param_scan_axis=7: params/layers/kernel is (3, 4, 5) and has no such axis"),
        (-3, "--param_scan_axis=-3: params/layers/bias is (3, 5) and has no such axis"),
        (1, "along it params/layers/kernel is 4 long and params/layers/bias 5, as layers are not"),
    ],
)
def test_an_axis_along_which_there_are_no_layers_is_named(axis, said):
    leaves = params(layers__kernel=(3, 4, 5), layers__bias=(3, 5))
    found = refused(leaves, Layout("unstacked", axis))
    assert said in found
    assert found.endswith("give the axis of the layers of layers")


def test_a_scalar_of_each_layer_is_stacked_along_the_first_axis_alone():
    leaves = params(layers_0__scale=(), layers_1__scale=())
    assert planned(leaves, Layout("stacked"))["layers", "scale", "value"].leaf.shape == (2,)
    assert "along its axis 1" in refused(leaves, Layout("stacked", 1))


def test_two_variables_of_one_name_are_refused():
    leaves = params(dense__scale=(2,)) | {
        ("cache", "dense", "scale"): Leaf((2,), np.dtype(np.float32))
    }
    said = refused(leaves)
    assert "params/dense/scale and cache/dense/scale would both be dense/scale" in said


def test_params_below_params_and_their_moments():
    state = stored(linen_state(LinenStack(1), OPTIMIZERS["clipped adamw"]))
    nested = [{_nested(path): value for path, value in each.items()} for each in state]
    port = moved(*nested, planned(nested[1]))
    assert ("model", "layers", "dense", "kernel", "value") in port[0]
    mu = ("optimizer", "opt_state", "1", "0", "mu", "layers", "dense", "kernel", "value")
    np.testing.assert_array_equal(
        port[0][mu], state[0]["opt_state", 1, 0, "mu", "layers", "dense", "kernel"]
    )


def _nested(path):
    if path[0] == "params":
        return ("params", *path)
    for name in ("mu", "nu"):
        if name in path:
            at = path.index(name) + 1
            return (*path[:at], "params", *path[at:])
    return path


def test_random_state_is_carried_along_and_comes_back():
    tree = {
        "dense": {"kernel": {"value": np.ones((2, 2), np.float32)}},
        "drop": {
            "rngs": {
                "count": {"value": np.uint32(3)},
                "key": {"value": np.arange(2, dtype=np.uint32)},
            }
        },
    }
    arrays, leaves = stored(tree)
    linen = moved(arrays, leaves, planned(leaves))
    assert ("nnx_aux", "drop", "rngs", "key", "value") in linen[0]
    back, _ = moved(*linen, planned(linen[1]))
    assert_same_bits(back, arrays)


@pytest.mark.parametrize("step", [0, 7, 2**31 - 1])
def test_the_number_of_steps_is_counted_as_each_api_counts(step):
    leaves = params(w=(2,)) | {("step",): Leaf((), np.dtype(np.int64), "scalar")}
    arrays = {("params", "w"): np.ones(2, np.float32), ("step",): np.array(step, np.int64)}
    port = moved(arrays, leaves, planned(leaves))
    assert port[0]["optimizer", "step", "value"].dtype == np.uint32
    back, _ = moved(*port, planned(port[1]))
    assert back["step",] == step
    assert back["step",].dtype == np.int32


@pytest.mark.parametrize("step", [-1, 2**32])
def test_a_number_of_steps_that_cannot_be_held_is_refused(step):
    leaves = params(w=(2,)) | {("step",): Leaf((), np.dtype(np.int64), "scalar")}
    arrays = {("params", "w"): np.ones(2, np.float32), ("step",): np.array(step, np.int64)}
    with pytest.raises(InputError, match=rf"step is {step}, which uint32 cannot hold"):
        moved(arrays, leaves, planned(leaves))


def test_a_variable_without_moments_beside_those_that_have_some_is_refused():
    _, leaves = stored(nnx_state(NnxStack(nnx.Rngs(0)), OPTIMIZERS["adam"]))
    leaves["model", "table", "value"] = Leaf((2,), np.dtype(np.float32))
    assert "none of table" in refused(leaves)


def test_a_tree_of_neither_api_says_what_to_do():
    leaves = {("dense", "kernel"): Leaf((2, 2), np.dtype(np.float32))}
    assert "--direction=" in refused(leaves)
    assert planned(leaves, api="linen").keys() == {("dense", "kernel", "value")}
    assert planned(leaves, api="nnx").keys() == {("params", "dense", "kernel")}


def test_a_tree_without_numbers_is_refused():
    assert "no parameters found" in refused({})


@pytest.mark.parametrize("name", ["value", "params", "0", "a.b", "a/b", "ü", "", "²", "9" * 20])
def test_any_name_of_a_param_goes_there_and_back(name):
    tree = {
        "params": {"dense": {name: np.ones(2, np.float32)}, "head": {"w": np.ones(3, np.float32)}}
    }
    arrays, leaves = stored(tree)
    port = moved(arrays, leaves, planned(leaves))
    assert ("dense", name, "value") in port[0]
    if name == "0":  # a list of NNX: what Linen called so, its manifest alone tells
        return
    back, _ = moved(*port, planned(port[1]))
    assert_same_bits(back, arrays)


@pytest.mark.parametrize(
    "saved",
    [
        lambda state: {"state": state},
        lambda state: {"train": {"state": state}},
        lambda state: {"state": {"0": state["model"], "1": state["optimizer"]}},
        lambda state: {"state": {"net": state["model"], "opt": state["optimizer"]}},
    ],
)
def test_a_model_and_its_optimizer_are_found_wherever_they_were_saved(saved):
    state = nnx_state(NnxStack(nnx.Rngs(0)), OPTIMIZERS["clipped adamw"])
    _, expected = stored({name: state[name] for name in ("model", "optimizer")})
    _, leaves = stored(saved(state))
    linen = {path: leaf for path, leaf in leaves_of(planned(leaves)).items() if path[0] != "key"}
    linen = {path: leaf for path, leaf in linen.items() if path[:2] != ("train", "state")}
    assert linen == leaves_of(planned(expected))
