"""Training of the transformer: a state, and the step that makes the next one of it."""

import functools
from typing import Any

import jax
import optax
from flax import nnx

from nnx_impl.rngs import linen_rngs, linen_streams
from nnx_impl.transformer import Transformer
from shared.cases import Case
from shared.training.loss import cross_entropy


class TrainState(nnx.Module):
    """A model in training: its params, what the optimizer keeps, and how many steps were made.

    Attributes:
      model, optimizer: what a step changes.
      key: of all masks; each step folds its number into it.
      draws: Linen's scope of each mask, and how many scans are around them.
    """

    def __init__(self, model, optimizer, key: jax.Array, draws: tuple[tuple[str, ...], int]):
        self.model = model
        # It holds moments of the params, not the model: what it trains is said at each update.
        self.optimizer = nnx.Optimizer(model, optimizer, wrt=nnx.Param, graph=False)
        self.key = nnx.RngKey(key, tag="dropout")
        self.draws = draws


def init(case: Case, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step."""
    rngs = linen_rngs(seed, case.all_draws, case.num_scans, case.draws_outside)
    model = Transformer(**case.arguments, rngs=rngs)
    key = jax.random.key(seed)
    dropout = case.inputs[1]
    return TrainState(model, optimizer, key, (dropout.draws, case.num_scans))


# What is donated is not there afterwards: its memory becomes that of the new state.
@functools.partial(jax.jit, donate_argnames="state")
def train_step(state: TrainState, windows: jax.Array) -> tuple[TrainState, jax.Array]:
    """The state after a step on `windows` (B, T + 1), and the loss before it, in nats a token."""
    key = jax.random.fold_in(state.key[...], state.optimizer.step[...])

    def loss(model):
        logits = model(windows[:, :-1], linen_streams({"dropout": (key, *state.draws)}))
        return cross_entropy(logits, windows[:, 1:])

    value, grads = nnx.value_and_grad(loss, graph=False)(state.model)
    state.optimizer.update(state.model, grads)
    # It is changed in place, in the trace alone: `jax.jit` hands out what is returned.
    return state, value


@jax.jit
def evaluate(state: TrainState, windows: jax.Array) -> jax.Array:
    """The loss of `windows` (B, T + 1), where nothing is dropped."""
    model = nnx.view(state.model, deterministic=True, graph=False)
    return cross_entropy(model(windows[:, :-1]), windows[:, 1:])


def params_of(state: TrainState) -> dict[str, Any]:
    """The params, a plain nested dict."""
    return nnx.to_pure_dict(nnx.state(state.model, nnx.Param))


def to_checkpoint(state: TrainState) -> Any:
    """What of a state is saved, as users save it: a pytree of arrays."""
    return nnx.state(state)


def from_checkpoint(state: TrainState, checkpoint: Any) -> TrainState:
    """The state that was saved; `state` is one of the same run."""
    return nnx.merge(nnx.graphdef(state), checkpoint)
