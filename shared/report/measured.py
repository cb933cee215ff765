"""What a benchmark found: tables of quantities, a column for each way to run one model."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple


class Ratio(NamedTuple):
    """How many times as long one call takes as another: the median of the rounds and its tenths.

    Attributes:
      median: of the ratios within one round.
      low: their tenth percentile; high: their ninetieth.
    """

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """How far the tenths are from 1, at most."""
        return max(abs(self.low - 1), abs(self.high - 1))


@dataclasses.dataclass(frozen=True)
class Quantity:
    """One row: a quantity of each column.

    Attributes:
      name: what was measured.
      unit: "s", "bytes", "flops", "GFLOP/s", "programs", "params", a multiple of the bytes of the
        params, "exponent", of a power that was fitted, or "same", 1 or 0.
      values: {column: the median}; a column that has none is not there.
      ratios: {column: to the first column, within one run}; of what was not timed in turns, the
        quotient alone.
    """

    name: str
    unit: str
    values: Mapping[str, float]
    ratios: Mapping[str, Ratio]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of one kind, with the same columns.

    Attributes:
      title: what was measured, on what, in words.
      rows: one for each quantity; their first column is what the others are compared with.
      notes: what is to be known to read them, a sentence each.
    """

    title: str
    rows: tuple[Quantity, ...]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """All that `bench` found of one subject.

    Attributes:
      name: the case, or the place of the pair.
      inputs: their dtypes and shapes, in words.
      num_leaves: the number of arrays that a call is given, beside its inputs.
      params_bytes: what they take.
      implementations: the rows of Linen, NNX and, where there is one, hand-written JAX.
      forms: the rows of the ways to call an NNX module; columns are forms.
      same_program: {what is computed: {column: whether XLA makes Linen's program of it}}.
      noise: of two equal programs, timed as all others were.
      advice: what to do about it, a sentence each.
    """

    name: str
    inputs: str
    num_leaves: int
    params_bytes: int
    implementations: tuple[Quantity, ...]
    forms: tuple[Quantity, ...]
    same_program: Mapping[str, Mapping[str, bool]]
    noise: Ratio
    advice: tuple[str, ...]
