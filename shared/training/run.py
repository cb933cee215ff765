"""A run of training: from a seed to params, step by step."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from shared.cases import Case
from shared.training.config import Config, optimizer
from shared.training.text import Text, batch, windows
from shared.training.trainer import Trainer


class Step(NamedTuple):
    """What a step has made.

    Attributes:
      number: of the step, counted from 1.
      state: after it; it is there until the next step is asked for.
      loss: of its windows before it, in nats a token.
    """

    number: int
    state: Any
    loss: jax.Array


def first_state(trainer: Trainer, config: Config, text: Text) -> Any:
    """The state before the first step."""
    return _init(trainer, config.case(len(text.characters)), config)()


@functools.cache
def _init(trainer: Trainer, case: Case, config: Config) -> Callable[[], Any]:
    """Compiled once for all runs in this process that begin alike."""
    return jax.jit(functools.partial(trainer.init, case, optimizer(config), config.seed))


def num_params(trainer: Trainer, state: Any) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(trainer.params_of(state)))


def steps(trainer: Trainer, state: Any, config: Config, text: Text, done: int) -> Iterator[Step]:
    """The steps of a run after the first `done`, of which `state` is."""
    for number in range(done, config.steps):
        tokens = batch(text.train, config.seed, number, config.batch_size, config.length)
        state, loss = trainer.train_step(state, tokens)
        yield Step(number + 1, state, loss)


def validation_loss(trainer: Trainer, state: Any, config: Config, text: Text) -> float:
    """The mean loss of all windows of the validation text, in nats a token."""
    size = min(config.batch_size, (len(text.validation) - 1) // config.length)
    losses = [
        trainer.evaluate(state, each) for each in windows(text.validation, size, config.length)
    ]
    return float(np.mean(np.asarray(losses, np.float64)))
