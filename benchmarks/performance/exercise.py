"""`composed-lifts bench` of the exercise: what a user's own pair gets, too."""

import dataclasses

from shared.bench.pipeline import FULL, bench
from shared.cases import CASES
from shared.models.subject import subject_of_case
from shared.report.measured import Table

# (num_layers, features, batch_size): what the command takes if nothing is said.
SIZES = (12, 256, 32)


def measure() -> list[Table]:
    """The implementations, and the forms of the call with the advice."""
    num_layers, features, batch_size = SIZES
    case = dataclasses.replace(
        CASES["shared"], num_layers=num_layers, features=features, batch_size=batch_size
    )
    found = bench(subject_of_case(case), FULL)
    sizes = f"num_layers={num_layers}, features={features}, batch_size={batch_size}"
    return [
        Table(f"Forms of the call, {sizes}", found.forms, found.advice),
        Table(f"The implementations, {sizes}", found.implementations),
    ]
