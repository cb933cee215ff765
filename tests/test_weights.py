"""Weights move between the implementations without loss, or not at all."""

import functools
import operator

import numpy as np
import pytest
from helpers import (
    assert_identical,
    linen_to_nnx,
    nnx_to_linen,
    random_inputs,
    random_variables,
    weights_of,
)

from shared.cases import CASES
from shared.errors import InputError
from shared.trees import check_same_shapes, flatten, unflatten


def test_there_and_back(case):
    variables = random_variables(case)
    moved = linen_to_nnx(case, variables)
    assert flatten(moved).keys() == weights_of(case).nnx.keys()
    back = nnx_to_linen(case, moved)
    assert_identical(variables, back)
    for path, leaf in flatten(variables).items():
        assert flatten(back)[path] is leaf


def test_every_missing_and_every_unknown_leaf_is_named():
    case = CASES["shared"]
    variables = {"params": {"Dense_0": {"kernel": np.ones(1), "scale": np.ones(1)}}, "a": {"b": 1}}
    with pytest.raises(InputError) as caught:
        linen_to_nnx(case, variables)
    for words in ("Dense_0/bias: missing", "Dense_0/scale: not in the map", "a/b: not in the map"):
        assert words in str(caught.value)


def test_shapes_are_compared_and_all_problems_listed():
    expected = {"a": np.ones(2), "b": np.ones((2, 3)), "c": np.ones(1)}
    check_same_shapes(expected, dict(expected))
    with pytest.raises(InputError) as caught:
        check_same_shapes(expected, {"a": np.ones(2), "b": np.ones((3, 2)), "d": np.ones(1)})
    assert str(caught.value) == (
        "variables do not fit the model: b: expected (2, 3), received (3, 2); "
        "c: missing, expected (1,); d: unexpected"
    )


@pytest.mark.in_turn
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda dense: dense.pop("bias"), "bias: missing"),
        (lambda dense: dense.update(scale=dense["bias"]), "scale: unexpected"),
        (
            lambda dense: dense.update(bias=dense["bias"][..., :1]),
            r"bias: expected .*, received .*\b1,?\)",
        ),
    ],
    ids=["missing", "extra", "shape"],
)
def test_apply_refuses_variables_that_do_not_fit(linen, nnx, case, change, message):
    inputs = random_inputs(case)
    for implementation, moved in ((linen, lambda _, v: v), (nnx, linen_to_nnx)):
        leaves = flatten(moved(case, random_variables(case)))
        kernels = (path.removesuffix("/kernel") for path in leaves if path.endswith("/kernel"))
        layer = next(path for path in kernels if f"{path}/bias" in leaves)
        variables = unflatten(leaves)
        change(functools.reduce(operator.getitem, layer.split("/"), variables))
        with pytest.raises(InputError, match=message):
            implementation.apply(case, variables, *inputs)


def test_a_name_with_a_separator_stays_a_name():
    tree = {"params": {"a/b": 1, "a": {"b": 2, "~1": 3}, "a~0b": 4}}
    flat = flatten(tree)
    assert len(flat) == 4
    assert flat["params/a~1b"] == 1
    assert unflatten(flat) == tree


def test_numbers_that_are_not_floating_are_refused():
    with pytest.raises(InputError, match="a: expected floating numbers, received int"):
        check_same_shapes({"a": np.ones(2)}, {"a": np.ones(2, int)})
