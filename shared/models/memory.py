"""Whether arrays fit into memory, before they are made."""

import math
import os
from typing import Any

import jax

from shared.errors import InputError


def bytes_of(specs: Any) -> int:
    """What the arrays of a tree take, or would take."""
    leaves = [x for x in jax.tree.leaves(specs) if hasattr(x, "shape")]
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)


def check_memory(what: str, needed: int) -> None:
    """Raises InputError where so many bytes are not free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > free:
        raise InputError(
            f"{what} would take {needed / 2**30:,.1f} GiB, {free / 2**30:,.1f} GiB are free; "
            f"choose smaller sizes"
        )
