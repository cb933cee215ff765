"""What is asked of a layer, and an answer."""

import dataclasses

from shared.report.result import Divergence

WEIGHTS, FORWARD, GRADIENTS = "weights", "forward", "gradients"
STATE, TRAINING, INITIAL, DECODE = (
    "state after the call",
    "training mode",
    "initial values",
    "decode",
)
# In the order of the columns.
QUESTIONS = (WEIGHTS, FORWARD, GRADIENTS, STATE, TRAINING, INITIAL, DECODE)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What stands in a cell, for one dtype.

    Attributes:
      words: without the figure.
      figure: the largest difference; None where none was measured.
      kind: of the difference, by which it is known what to do; "" where there is none.
      place: where the two programs part.
      cannot_run: why XLA cannot run it here; "" if it can.
    """

    words: str
    figure: float | None = None
    kind: str = ""
    place: Divergence | None = None
    cannot_run: str = ""

    def __str__(self) -> str:
        return self.words.replace(FIGURE, f"{self.figure or 0:.2g}")


# Where the figure stands in the words.
FIGURE = "{figure}"
NOT_COMPARED = Answer("not compared")

# What a difference of each kind means for whoever moves a model.
ALONE = "alone"
UNTRAINED = "untrained"
STORED = "stored"
OVERWRITTEN = "overwritten"
COMPUTED = "computed"
ROUNDED = "rounded"
STARTED = "started"
RAISED = "raised"
