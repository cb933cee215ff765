"""The members of an ensemble are trained apart, their optimizer state along the axis of members."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_identical, linen_to_nnx, random_batch, random_variables, small
from helpers import updates_to_linen as to_linen

from shared.cases import CASES

OPTIMIZER = optax.adam(1e-2)


def trained(implementation, case, variables, steps=4):
    """Params and optimizer state after some steps of each member on an example of its own."""
    init, update = jax.vmap(OPTIMIZER.init), jax.vmap(OPTIMIZER.update)

    @jax.jit
    def step(params, state, x):
        loss = lambda params: (implementation.apply(case, {"params": params}, x)[0] ** 2).sum()  # noqa: E731
        updates, state = update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = variables["params"]
    state = init(params)
    for seed in range(steps):
        params, state = step(params, state, random_batch(case, seed))
    return params, state


@pytest.mark.parametrize("name", ["ensemble", "identical_copies"])
def test_both_train_the_same_members(linen, nnx, name):
    case = small(CASES[name])
    variables = random_variables(case)
    expected, state = trained(linen, case, variables)
    received, nnx_state = trained(nnx, case, linen_to_nnx(case, variables))
    assert_identical({"params": expected}, to_linen(case, {"params": received}))
    for moment in ("mu", "nu"):
        ours, theirs = (getattr(each[0], moment) for each in (state, nnx_state))
        assert_identical({"params": ours}, to_linen(case, {"params": theirs}))
    assert state[0].count.shape == (case.batch_size,)


def test_a_member_is_trained_as_it_would_be_alone(linen):
    case, alone = small(CASES["ensemble"]), small(CASES["shared"])
    variables = random_variables(case)
    together, _ = trained(linen, case, variables)
    for member in range(case.batch_size):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf[member]), variables["params"])  # noqa: B023
        state = OPTIMIZER.init(params)
        for seed in range(4):
            x = random_batch(case, seed)[member : member + 1]
            loss = lambda params: (linen.apply(alone, {"params": params}, x)[0] ** 2).sum()  # noqa: B023, E731
            updates, state = OPTIMIZER.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(a, b[member], rtol=1e-5, atol=1e-6)
