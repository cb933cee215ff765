"""By rule a tree of any names, shapes and dtypes comes back as it was, stacked or not."""

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
from hypothesis import given
from stored_trees import InMemory

from shared.checkpoint.planning.making import Making
from shared.checkpoint.planning.plan import plan_of
from shared.checkpoint.planning.rules import map_by_rule
from shared.checkpoint.stored import Leaf
from shared.checkpoint.tree.layers import KEEP, Layout
from shared.checkpoint.tree.recognised import roles_of

DTYPES = ("float32", "float16", "bfloat16", "float64", "int32", "uint8", "bool", "complex64")
# A name that ends in a number may be of a list; such lists are made by themselves.
NAMES = st.sampled_from(["value", "params", "step", "Dense_0", "mu", "a.b", "a/b", "[0]", "~1"])
NAMES |= st.text("abcXYZ_.-[ü", min_size=1, max_size=4)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
STACKS = ("blocks", "layers")


@st.composite
def modules(draw, depth=2):
    """{path in a module: (shape, dtype)}: no variable is a module as well."""
    found = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        if depth and draw(st.booleans()):
            found |= {(name, *path): each for path, each in draw(modules(depth - 1)).items()}
        else:
            found[name,] = draw(SHAPES), draw(st.sampled_from(DTYPES))
    return found


@st.composite
def states(draw):
    """({path: array} of Linen, where its list of layers is).

    Statistics stand in modules of their own, moments are those of all params.
    """
    params = {("top", *path): each for path, each in draw(modules()).items()}
    stack = (*draw(st.sampled_from([(), ("decoder",)])), draw(st.sampled_from(STACKS)))
    layer, length = draw(modules(1)), draw(st.sampled_from([2, 3, 11]))
    statistics = {}
    for i in range(length):
        numbered = (*stack[:-1], f"{stack[-1]}_{i}")
        params |= {(*numbered, *path): each for path, each in layer.items()}
        for name in ("mean", "var"):
            statistics[*numbered, "bn", name] = (2,), "float32"
    specs = {("params", *path): each for path, each in params.items()}
    specs |= {("batch_stats", *path): each for path, each in statistics.items()}
    if draw(st.booleans()):
        specs["step",] = specs["opt_state", 1, "count"] = (), "int32"
        for name in ("mu", "nu"):
            specs |= {("opt_state", 1, name, *path): each for path, each in params.items()}
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return {path: array_of(rng, *each) for path, each in specs.items()}, "/".join(stack)


def array_of(rng, shape, dtype):
    """Any bits: of a step that is counted some whole number."""
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    if dtype in (np.bool_, np.int32):
        return rng.integers(0, 2, shape).astype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(rng.bytes(size), dtype).reshape(shape)


def converted(arrays, layout=KEEP):
    """{path: array} of the other side."""
    leaves = {path: Leaf(array.shape, array.dtype) for path, array in arrays.items()}
    roles = roles_of(leaves, "memory")
    weights = map_by_rule(roles, leaves, layout, "memory")
    plan = plan_of(roles, leaves, weights, "value", "memory")
    making = Making(plan, InMemory(arrays, leaves), None)
    return {path: making.read(path) for path, made in plan.items() if made.pieces}


def assert_same_bits(made, expected):
    assert made.keys() == expected.keys()
    for path, array in expected.items():
        assert (made[path].shape, made[path].dtype) == (array.shape, array.dtype), path
        assert made[path].tobytes() == array.tobytes(), path


@given(states())
def test_a_tree_comes_back_as_it_was(state):
    arrays, _ = state
    port = converted(arrays)
    assert all(path[-1] == "value" for path in port)
    back = converted(port)
    assert_same_bits(back, arrays)
    assert_same_bits(converted(back), port)


@given(states(), st.sampled_from([0, 1, -1]))
def test_a_list_comes_back_as_it_was_from_a_stack(state, axis):
    arrays, stack = state
    port = converted(arrays, Layout("stacked", axis, stack))
    assert not any(path[-2].isdigit() or "_10" in str(path) for path in port)
    assert_same_bits(converted(port, Layout("unstacked", axis, stack)), arrays)


@given(states(), st.sampled_from([0, 1, -1]))
def test_a_stack_comes_back_as_it_was_from_a_list(state, axis):
    arrays, stack = state
    stacked = converted(converted(arrays, Layout("stacked", axis, stack)))
    listed = converted(stacked, Layout("unstacked", axis, stack))
    assert_same_bits(converted(listed, Layout("stacked", axis, stack)), stacked)
