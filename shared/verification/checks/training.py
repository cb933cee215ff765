"""Several steps of an optimizer: what one step hides, many show."""

from typing import Any

import jax
import numpy as np
import optax

from shared.models.gradients import NoGradientError, is_floating
from shared.report.result import Check
from shared.verification.checks.compare import compare
from shared.verification.checks.gradients import move_floating, without_gradients
from shared.verification.ported import Ported
from shared.verification.runs import gradients_of_both

STEPS = 3


def check_training(ported: Ported) -> Check:
    """The floating weights after `STEPS` steps of momentum on the same inputs, by NNX's names."""
    try:
        return _check(ported)
    except NoGradientError:
        return without_gradients(ported, "training")


def _check(ported: Ported) -> Check:
    leaves = list(ported.random_leaves(0))
    # Where training explodes, so does rounding: no step is longer than a hundredth of the weights.
    longest = np.sqrt(sum(_squares(x) for x in leaves[0].values() if is_floating(x)))
    states: list[Any] = [None, None]
    for number in range(STEPS):
        results = gradients_of_both(ported, (leaves[0], leaves[1]), ported.inputs(number))
        for side, (_, (_, gradients)) in enumerate(results):
            moving = {path: leaves[side][path] for path in gradients}
            # In one array for each dtype: one small program steps both sides.
            weights = _joined(moving)
            state = _first_state(weights) if states[side] is None else states[side]
            stepped, states[side] = _step(float(longest), _joined(gradients), state, weights)
            leaves[side] = {**leaves[side], **_apart(stepped, moving)}
    floating = [{p: x for p, x in side.items() if is_floating(x)} for side in leaves]
    moved = move_floating(ported, floating[0])
    return compare("training", moved, floating[1], ported.limits, True, ported.are_narrow)


def _optimizer(longest: Any) -> optax.GradientTransformation:
    """Not Adam: where a gradient is zero but for rounding, it makes a full step of the rounding."""
    return optax.chain(optax.clip_by_global_norm(longest), optax.sgd(1e-2, momentum=0.9))


def _first_state(weights: Any) -> Any:
    """That of `_optimizer`, which begins with zeros: nothing is compiled for them."""
    specs = jax.eval_shape(_optimizer(1.0).init, weights)
    return jax.tree.map(lambda spec: jax.device_put(np.zeros(spec.shape, spec.dtype)), specs)


@jax.jit
def _step(longest: Any, gradients: Any, state: Any, weights: Any) -> tuple[Any, Any]:
    changes, state = _optimizer(longest).update(gradients, state, weights)
    return optax.apply_updates(weights, changes), state


def _squares(x: Any) -> float:
    return float(np.sum(np.abs(np.asarray(x).astype(np.complex128)) ** 2))


def _joined(arrays: dict[str, Any]) -> dict[str, jax.Array]:
    """{dtype: the numbers of all arrays of that dtype, in a row, and zeros up to a power of two}.

    Models of about one size share the program that steps them.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for _, x in sorted(arrays.items()):
        rows.setdefault(str(x.dtype), []).append(np.asarray(x).reshape(-1))
    return {dtype: jax.device_put(_filled(np.concatenate(each))) for dtype, each in rows.items()}


def _filled(row: np.ndarray) -> np.ndarray:
    return np.pad(row, (0, (1 << (row.size - 1).bit_length()) - row.size))


def _apart(rows: dict[str, jax.Array], like: dict[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `_joined`, in the shapes of `like`."""
    numbers = {dtype: np.asarray(row) for dtype, row in rows.items()}
    start = dict.fromkeys(rows, 0)
    found = {}
    for path, x in sorted(like.items()):
        dtype, first = str(x.dtype), start[str(x.dtype)]
        start[dtype] = first + np.size(x)
        found[path] = numbers[dtype][first : start[dtype]].reshape(np.shape(x))
    return found
