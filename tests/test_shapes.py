"""Both return (B, F) in the dtype of the input, from params shaped as the table says."""

import jax
import numpy as np
import pytest
from faults import SHAPE_FAULTS, Faulty, Jitted
from helpers import linen_to_nnx, random_inputs, random_variables

from shared.interface import activation_of
from shared.trees import flatten


def check_shapes(implementation, case, variables):
    activation = activation_of(implementation.apply(case, variables, *random_inputs(case))[0])
    assert activation.shape == case.output_shape
    assert activation.dtype == np.float32


@pytest.mark.one_in(2)
def test_activation_has_the_shape_of_the_batch(linen, nnx, case):
    variables = random_variables(case)
    check_shapes(linen, case, variables)
    check_shapes(nnx, case, linen_to_nnx(case, variables))


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_params_have_the_lifted_axes_of_the_table(name, case, request):
    implementation = request.getfixturevalue(name)
    variables = jax.eval_shape(lambda: implementation.init(case.params_case, 0))
    leaves = flatten(variables)
    assert {path: leaf.shape for path, leaf in leaves.items()} == {
        path: case.shape(case.leaf(path)) for path in leaves
    }
    assert {case.leaf(path).name for path in leaves} == {leaf.name for leaf in case.leaves}


@pytest.mark.in_turn("fault")
@pytest.mark.parametrize("fault", SHAPE_FAULTS)
def test_planted_fault_is_caught(fault, linen, case):
    with pytest.raises(AssertionError):
        check_shapes(Faulty(Jitted(linen), **SHAPE_FAULTS[fault]), case, random_variables(case))
