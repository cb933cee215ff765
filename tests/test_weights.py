"""Weights move between the implementations without loss, or not at all."""

import numpy as np
import pytest
from helpers import assert_identical, linen_to_nnx, nnx_to_linen, random_variables, weights_of

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


def test_every_missing_and_every_unknown_leaf_is_named(case):
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda dense: dense.pop("bias"), "bias: missing"),
        (lambda dense: dense.update(scale=dense["bias"]), "scale: unexpected"),
        (
            lambda dense: dense.update(bias=dense["bias"][..., :1]),
            r"bias: expected .*, received .* 1\)",
        ),
    ],
    ids=["missing", "extra", "shape"],
)
def test_apply_refuses_variables_that_do_not_fit(linen, nnx, case, change, message):
    x = np.ones(case.input_shape, np.float32)
    variables = random_variables(case)
    change(variables["params"]["Dense_0"])
    with pytest.raises(InputError, match=message):
        linen.apply(case, variables, x)

    variables = linen_to_nnx(case, random_variables(case))
    change(variables["params"]["layers"]["dense"])
    with pytest.raises(InputError, match=message):
        nnx.apply(case, variables, x)


def test_a_name_with_a_separator_stays_a_name():
    tree = {"params": {"a/b": 1, "a": {"b": 2, "~1": 3}, "a~0b": 4}}
    flat = flatten(tree)
    assert len(flat) == 4
    assert flat["params/a~1b"] == 1
    assert unflatten(flat) == tree


def test_numbers_that_are_not_floating_are_refused():
    with pytest.raises(InputError, match="a: expected floating numbers, received int"):
        check_same_shapes({"a": np.ones(2)}, {"a": np.ones(2, int)})
