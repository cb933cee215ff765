"""Several steps of an optimizer: what one step hides, many show."""

import jax
import optax  # type: ignore[import-untyped]

from shared.checks.base import Check, Ported
from shared.checks.compare import compare
from shared.checks.gradients import (
    NoGradientError,
    both_gradients,
    is_floating,
    move_floating,
    without_gradients,
)

STEPS = 3


def check_training(ported: Ported) -> Check:
    """The floating weights after `STEPS` steps of momentum on the same inputs, by NNX's names."""
    try:
        return _check(ported)
    except NoGradientError:
        return without_gradients(ported, "training")


def _check(ported: Ported) -> Check:
    start = ported.random_leaves(0)
    # Where training explodes, so does rounding: no step is longer than a hundredth of the weights.
    longest = optax.tree.norm([x for x in start[0].values() if is_floating(x)])
    # Not Adam: where a gradient is zero but for rounding, it makes a full step of the rounding.
    optimizer = optax.chain(
        optax.clip_by_global_norm(float(longest)), optax.sgd(1e-2, momentum=0.9)
    )
    results = []
    for gradients, leaves in zip(both_gradients(ported), start, strict=True):

        @jax.jit
        def step(leaves, state, inputs, gradients=gradients):
            _, grads = gradients(leaves, inputs)
            moving = {path: leaves[path] for path in grads}
            changes, state = optimizer.update(grads, state, moving)
            return {**leaves, **optax.apply_updates(moving, changes)}, state

        _, moving = jax.eval_shape(gradients, leaves, ported.inputs(0))
        state = optimizer.init({path: leaves[path] for path in moving})
        for number in range(STEPS):
            leaves, state = step(leaves, state, ported.inputs(number))
        results.append({path: leaves[path] for path in moving})
    moved = move_floating(ported, results[0])
    return compare("training", moved, results[1], ported.limits, True, ported.are_narrow)
