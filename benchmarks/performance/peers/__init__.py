"""The exercise in other frameworks, where they are installed, on the same weights."""

import importlib
import importlib.util

import numpy as np

from benchmarks.performance.peers import models
from benchmarks.performance.peers import numpy as with_numpy
from benchmarks.performance.peers.column import Column, Found, Weights

__all__ = ["Column", "Weights", "columns"]

# Each is a module of this folder, of the same name as what it imports.
OTHERS = ("equinox", "haiku", "torch")


def columns(weights: Weights, x: np.ndarray) -> Found:
    """All ways to run the exercise, hand-written JAX first. Each holds copies of its own."""
    found, notes = models.columns(weights, x), []
    for name in OTHERS:
        if importlib.util.find_spec(name) is None:
            notes.append(
                f"{name} is not installed: pip install -c constraints.txt -e '.[peers]' adds it."
            )
            continue
        peer = importlib.import_module(f"benchmarks.performance.peers.{name}")
        made, said = peer.columns(weights, x)
        found |= made
        notes += said
    return found | with_numpy.columns(weights, x), tuple(notes)
