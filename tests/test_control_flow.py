"""What control flow, a backward pass of one's own and mapped variables do in a stack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx as flax_nnx
from flax.errors import TraceContextError
from helpers import gradients, linen_to_nnx, random_inputs, random_variables, small

from nnx_impl.control_flow import ChoosingBlock
from shared.cases import CASES
from shared.trees import flatten


def test_a_branch_of_linen_can_make_no_params_under_a_vmap():
    class Branching(nn.Module):
        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(5)
            return nn.cond(jnp.sum(x) > 0, lambda m, x: m(x), lambda m, x: 2 * m(x), dense, x)

    batched = nn.vmap(Branching, variable_axes={"params": None}, split_rngs={"params": False})
    with pytest.raises(ValueError, match="axis spec None but output was batched"):
        batched().init(jax.random.key(0), jnp.ones((4, 5)))


def test_every_branch_is_taken(linen):
    """Else the case would compare less than it says: of 4 examples in 3 layers."""
    case = small(CASES["control_flow"])
    variables, (x,) = random_variables(case), random_inputs(case)
    kernel, bias = (variables["params"]["dense"][name] for name in ("kernel", "bias"))
    signs, counts = set(), set()
    for example in x:
        for w, b in zip(kernel, bias, strict=True):
            h = example @ w + b
            signs.add(bool(h.sum() > 0))
            chosen = np.maximum(h @ w + b, 0) if h.sum() > 0 else h / (1 + np.exp(-h))
            counts.add(int((chosen > 0).sum() % 3))
            example = (1 + (chosen > 0).sum() % 3) * chosen
    assert (signs, counts) == ({True, False}, {0, 1, 2})


def test_the_gradients_of_params_are_clipped_example_by_example(linen, nnx):
    case, plain = small(CASES["custom_vjp"]), small(CASES["shared"])
    variables, inputs = random_variables(case), random_inputs(case)
    limit = dict(case.options)["limit"] * case.batch_size
    for implementation, moved in ((linen, variables), (nnx, linen_to_nnx(case, variables))):
        clipped, _ = gradients(implementation, case, moved, inputs)
        free, _ = gradients(implementation, plain, moved, inputs)
        largest = max(np.abs(leaf).max() for leaf in flatten(free).values())
        assert largest > limit
        assert all(np.abs(leaf).max() <= limit for leaf in flatten(clipped).values())


def test_what_map_variables_keeps_has_gone_through_both_functions():
    """Without trans_out_fn what the layer saw is kept: the next call sees it mapped twice."""

    def init(**functions):
        dense = nn.map_variables(nn.Dense, "params", jnp_map(jnp.tanh), init=True, **functions)
        return dense(5, name="dense").init(jax.random.key(0), jnp.ones(5))["params"]["kernel"]

    def jnp_map(function):
        return lambda params: jax.tree.map(function, params)

    seen = jnp.tanh(init(trans_out_fn=jnp_map(jnp.arctanh)))
    np.testing.assert_allclose(init(), jnp.tanh(seen), rtol=1e-5)


def test_what_nnx_branches_is_written_back_unchanged_too():
    """So a module cannot be closed over by a transform of JAX: one of NNX hands it in."""
    block, x = ChoosingBlock(5, rngs=flax_nnx.Rngs(0)), jnp.ones(5)
    with pytest.raises(TraceContextError, match="Cannot mutate Param"):
        jax.grad(lambda x: block(x).sum())(x)
    by_x = flax_nnx.grad(lambda block, x: block(x).sum(), argnums=1, graph=False)
    assert by_x(block, x).shape == (5,)
