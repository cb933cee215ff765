"""What the move to NNX costs: the compiled programs of both sides, and those of plain JAX."""
