"""Weights from one implementation to the other: the same arrays under other names."""

from shared.cases import Case
from shared.errors import InputError
from shared.interface import Variables
from shared.trees import flatten, unflatten


def linen_to_nnx(case: Case, variables: Variables) -> Variables:
    """Linen's variables under NNX's names. No leaf is copied, cast or reshaped.

    Raises:
      InputError: a leaf is missing or unknown.
    """
    return _rename(variables, {leaf.linen: leaf.nnx for leaf in case.leaves})


def nnx_to_linen(case: Case, variables: Variables) -> Variables:
    """The inverse of `linen_to_nnx`."""
    return _rename(variables, {leaf.nnx: leaf.linen for leaf in case.leaves})


def _rename(variables: Variables, names: dict[str, str]) -> Variables:
    leaves = flatten(variables)
    problems = [f"{path}: missing" for path in sorted(names.keys() - leaves)]
    problems += [f"{path}: unknown" for path in sorted(leaves.keys() - names)]
    if problems:
        raise InputError("weights cannot be moved: " + "; ".join(problems))
    return unflatten({names[path]: leaf for path, leaf in leaves.items()})
