"""What a run of training has shown so far, and what it is measured against."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class Trained:
    """A run of training.

    Attributes:
      impl: which implementation trains.
      config: of the run, {name of a flag: value}.
      source: where the text is from.
      num_characters: {"different", "train", "validation": how many characters}.
      num_params: of the model.
      counted: {"bigram", "trigram": its loss of the validation text}, what counting predicts.
      mesh: {axis: on how many devices}; None where there is but one.
      num_processes: in how many the devices are.
      losses: {step: the loss of its windows, in nats a character}, steps counted from 1.
      validation: {step: the loss of the validation text after it}.
      seconds: that all steps have taken, those before a resume too.
      samples: what the model was given, and what it wrote after that.
    """

    impl: str
    config: Mapping[str, Any]
    source: str
    num_characters: Mapping[str, int]
    num_params: int
    counted: Mapping[str, float]
    mesh: Mapping[str, int] | None = None
    num_processes: int = 1
    losses: dict[int, float] = dataclasses.field(default_factory=dict)
    validation: dict[int, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    samples: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @property
    def tokens_per_step(self) -> int:
        """How many tokens a step predicts."""
        return self.config["batch_size"] * self.config["length"]
