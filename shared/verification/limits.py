"""Up to where results that are not equal are close."""

import dataclasses
from typing import Any

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Limits:
    """Up to where two results are close: |a - b| <= atol + rtol * max |a|, of the whole array.

    What stands for minus infinity in a mask is not counted into the size of an array.

    The defaults are for float32 programs that differ in the order of their operations: 1e-5 and
    1e-6 for results, 1e-4 for what is derived from them, as the test suites of JAX, chex and
    PyTorch have it.
    """

    rtol: float | None = None
    atol: float | None = None

    def of(self, dtype: Any, derived: bool, narrow: bool = False) -> tuple[float, float]:
        """(rtol, atol) for a result of `dtype`, or for one derived from it; see `compare`."""
        if not jnp.issubdtype(dtype, jnp.inexact):
            return 0.0, 0.0  # whole numbers have no rounding
        half = narrow or jnp.finfo(dtype).bits < 32
        rtol, atol = (1.6e-2, 1e-3) if half else ((1e-4, 1e-6) if derived else (1e-5, 1e-6))
        return (
            rtol if self.rtol is None else self.rtol,
            atol if self.atol is None else self.atol,
        )
