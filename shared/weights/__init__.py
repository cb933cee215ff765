"""Which weight is which, found in the two programs, and weights moved from one to the other."""

from shared.weights.rename import linen_to_nnx, nnx_to_linen

__all__ = ["linen_to_nnx", "nnx_to_linen"]
