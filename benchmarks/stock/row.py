"""A row of the table of layers: what it is called in both libraries, and how it is called."""

import dataclasses
from collections.abc import Callable

import jax

from shared import Pair

# From the dtype that a layer computes in to the pair; its weights are stored in float32.
Make = Callable[[str], Pair]


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer, called in one way.

    Attributes:
      linen: the name of the layer in `flax.linen`; nnx: in `flax.nnx`.
      make: the pair; None where the row asks for decoding alone.
      how: in which way it is called, where there are several.
      decode: the pair as it decodes with a cache; None where the layer has none.
    """

    linen: str
    nnx: str
    make: Make | None
    how: str = ""
    decode: Make | None = None

    @property
    def name(self) -> str:
        """What stands in the first cell."""
        both = self.linen if self.linen == self.nnx else f"{self.linen} / {self.nnx}"
        return f"{both}, {self.how}" if self.how else both


def array(dtype: str, *shape: int) -> jax.ShapeDtypeStruct:
    """An input of which only the shape and the dtype are given."""
    return jax.ShapeDtypeStruct(shape, dtype)
