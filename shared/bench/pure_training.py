"""Training of the transformer in plain JAX: what both idioms are measured against."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shared.bench.pure_transformer import transformer
from shared.cases import Case
from shared.training.loss import cross_entropy


class State(NamedTuple):
    """What a step changes, as `TrainState` has it in Linen."""

    step: jax.Array
    params: dict[str, Any]
    opt_state: Any
    key: jax.Array


def init(params: dict[str, Any], optimizer: optax.GradientTransformation, key: jax.Array) -> State:
    """The state before the first step, of Linen's params."""
    return State(jnp.zeros((), jnp.int32), params, optimizer.init(params), key)


def train_step(
    case: Case, optimizer: optax.GradientTransformation, state: State, windows: jax.Array
) -> tuple[State, jax.Array]:
    """The state after a step on `windows` (B, T + 1), and the loss before it. Not jitted."""
    forward = transformer(case)
    key = jax.random.fold_in(state.key, state.step)

    def loss(params):
        logits = forward(tuple(jax.tree.leaves(params)), windows[:, :-1], key)
        return cross_entropy(logits, windows[:, 1:])

    value, grads = jax.value_and_grad(loss)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(state.step + 1, params, opt_state, state.key), value


def jitted(case: Case, optimizer: optax.GradientTransformation) -> Any:
    """(state, windows) -> (state, loss), compiled; the state is donated."""
    return jax.jit(functools.partial(train_step, case, optimizer), donate_argnums=0)
