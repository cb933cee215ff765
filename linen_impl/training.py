"""Training of the transformer: a state, and the step that makes the next one of it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import struct
from flax.training import train_state

from linen_impl.rngs import linen_rngs
from linen_impl.transformer import Transformer
from shared.batch import zero_inputs
from shared.cases import Case
from shared.training.loss import cross_entropy


class TrainState(train_state.TrainState):
    """A model in training: its params, what the optimizer keeps, and how many steps were made.

    Attributes:
      step, params, opt_state: what a step changes.
      key: of all masks; each step folds its number into it.
      eval_fn: as `apply_fn`, of the model that drops nothing.
    """

    key: jax.Array
    eval_fn: Callable = struct.field(pytree_node=False)


def init(case: Case, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step."""
    model = Transformer(**case.arguments)
    key = jax.random.key(seed)
    tokens, _ = zero_inputs(case)
    variables = model.init({**linen_rngs(seed), "dropout": key}, tokens)
    return TrainState.create(
        apply_fn=model.apply,
        eval_fn=model.clone(deterministic=True).apply,
        params=variables["params"],
        tx=optimizer,
        key=key,
    )


# What is donated is not there afterwards: its memory becomes that of the new state.
@functools.partial(jax.jit, donate_argnames="state")
def train_step(state: TrainState, windows: jax.Array) -> tuple[TrainState, jax.Array]:
    """The state after a step on `windows` (B, T + 1), and the loss before it, in nats a token."""
    key = jax.random.fold_in(state.key, state.step)

    def loss(params):
        logits = state.apply_fn({"params": params}, windows[:, :-1], rngs={"dropout": key})
        return cross_entropy(logits, windows[:, 1:])

    value, grads = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=grads), value


@jax.jit
def evaluate(state: TrainState, windows: jax.Array) -> jax.Array:
    """The loss of `windows` (B, T + 1), where nothing is dropped."""
    logits = state.eval_fn({"params": state.params}, windows[:, :-1])
    return cross_entropy(logits, windows[:, 1:])


def params_of(state: TrainState) -> dict[str, Any]:
    """The params, a plain nested dict."""
    return dict(state.params)


def to_checkpoint(state: TrainState) -> Any:
    """What of a state is saved, as users save it: a pytree of arrays."""
    return state


def from_checkpoint(state: TrainState, checkpoint: Any) -> TrainState:
    """The state that was saved; `state` is one of the same run."""
    return checkpoint
