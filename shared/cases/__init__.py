"""CASES: the one table that drives the command line, the tests and the documents.

A new case is a constructor of the same name in both twins of a pattern file, and a row of
`patterns.py`; of the transformer, of `transformer.py`.
"""

from shared.cases.case import BATCH, Case, Input, Leaf
from shared.cases.exercise import EXERCISE
from shared.cases.patterns import PATTERNS
from shared.cases.transformer import TRANSFORMER

__all__ = ["BATCH", "CASES", "Case", "Input", "Leaf"]

CASES: dict[str, Case] = {case.name: case for case in (*EXERCISE, *PATTERNS, *TRANSFORMER)}
