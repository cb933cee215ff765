"""Whether XLA makes one program of Linen, NNX and plain JAX, of every case."""

import dataclasses

from shared.bench.pipeline import runners_of
from shared.bench.programs import same_as_first
from shared.cases import CASES
from shared.cli.bench import names_of_leaves
from shared.models.pure_pair import pure_case
from shared.models.subject import no_gradient, subject_of_case
from shared.report.measured import Quantity, Table

SIZES = {"num_layers": 3, "features": 5, "batch_size": 4}
KINDS = {"forward": "forward", "gradient": "value and gradient"}


def measure() -> list[Table]:
    """A row for each case: 1 where the program is that of Linen, 0 where it is not."""
    rows = [row(name) for name, case in CASES.items() if case.params_of is None]
    return [Table("Is the optimised program that of Linen?", tuple(rows))]


def row(name: str) -> Quantity:
    case = dataclasses.replace(CASES[name], **SIZES)
    subject = subject_of_case(case)
    runners = runners_of(subject)
    names, found = names_of_leaves(pure_case(case)), {}
    for kind, words in KINDS.items():
        if kind == "gradient" and no_gradient(runners["linen"], subject.inputs):
            continue
        same = same_as_first(runners, kind, subject.inputs, names)
        found |= {f"{column}, {words}": float(is_same) for column, is_same in same.items()}
    return Quantity(name, "same", found, {})
