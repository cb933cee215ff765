"""The step of `composed-lifts train`, as it is by default."""

from shared.bench.train_step import AGAIN, train_step_rows
from shared.interface import IMPLEMENTATIONS
from shared.report.measured import Table
from shared.training.config import Config, optimizer
from shared.training.text import tokens_of, topics

SECONDS = 30.0
TIMES = 3
COLUMNS = ("jax", AGAIN, *IMPLEMENTATIONS)


def measure() -> list[Table]:
    """Linen's idiom, that of NNX, and the same mathematics in plain JAX."""
    config = Config()
    case = config.case(len(tokens_of(topics(), config.length).characters))
    sizes = (
        f"{config.num_layers} layers, {config.features} features, {config.batch_size} windows of "
        f"{config.length} tokens"
    )
    rows = train_step_rows(case, optimizer(config), SECONDS, TIMES, COLUMNS)
    return [Table(f"A step of training, {sizes}", tuple(rows))]
