"""What a run of training depends on, apart from its text."""

import dataclasses
from typing import Any

import jax
import optax

from shared.cases import CASES, Case

# The parts of a step's length that are no choice of the user's.
WARMUP = 0.1
LAST = 0.05
DECAYED = {"kernel", "embedding"}


@dataclasses.dataclass(frozen=True)
class Config:
    """A run.

    Attributes:
      steps: how many, of which the schedule depends.
      seed: of the params, the masks and the order of the windows.
      learning_rate: the highest.
      batch_size, length: of the windows, in windows and in tokens.
      num_layers, features, num_heads, rate: of the model.
    """

    steps: int = 1000
    seed: int = 0
    learning_rate: float = 5e-3
    batch_size: int = 16
    length: int = 64
    num_layers: int = 2
    features: int = 128
    num_heads: int = 4
    rate: float = 0.05

    def case(self, vocab: int) -> Case:
        """The model, as a row of CASES."""
        sizes = {
            "num_heads": self.num_heads,
            "head_dim": self.features // self.num_heads,
            "hidden": 4 * self.features,
            "vocab": vocab,
            "length": self.length,
        }
        case = CASES["transformer"]
        return dataclasses.replace(
            case,
            num_layers=self.num_layers,
            features=self.features,
            batch_size=self.batch_size,
            sizes=tuple(sizes.items()),
            options=tuple({**dict(case.options), "rate": self.rate}.items()),
        )


def schedule(config: Config) -> optax.Schedule:
    """The learning rate of each step: up to the highest, then down along a cosine."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=round(WARMUP * config.steps),
        decay_steps=config.steps,
        end_value=LAST * config.learning_rate,
    )


def optimizer(config: Config) -> optax.GradientTransformation:
    """AdamW, of gradients that are clipped; norms and biases do not decay."""
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule(config), b2=0.98, weight_decay=0.1, mask=decays),
    )


def decays(params: Any) -> Any:
    """Of each param whether it decays: its own name says so, which both APIs share.

    `nnx.Optimizer` asks twice: at first of variables, whose paths end in `value`, then of arrays.
    """

    def is_decayed(path, _):
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        return not DECAYED.isdisjoint(names)

    return jax.tree_util.tree_map_with_path(is_decayed, params)
