"""What the two implementations have in common: cases, interface, weights, command line.

Nothing here knows a Linen or an NNX module class, and importing it imports no JAX.
"""

# The implementations look for this mark: other projects have a package called `shared` too.
PROJECT = "composed-lifts"

_API = {
    "convert": "shared.cli.carried",
    "compare": "shared.checkpoint.compare",
    "Options": "shared.checkpoint.options",
    "Layout": "shared.checkpoint.tree.layers",
    "options_of_pair": "shared.cli.convert",
    "Pair": "shared.models.pair",
    "Verification": "shared.report.result",
    "verify": "shared.verification.pipeline",
    "find_weight_map": "shared.verification.pipeline",
    "Limits": "shared.verification.limits",
    "WeightMap": "shared.weights.weight_map",
}
__all__ = ["PROJECT", *_API]


def __getattr__(name: str) -> object:
    """Imports what is asked for, and JAX with it, only then."""
    if name not in _API:
        raise AttributeError(f"module 'shared' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_API[name]), name)
