"""A traced program as a flat graph of operations, its canonical form and its evaluation."""
