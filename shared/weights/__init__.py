"""Which weight is which, found in the two programs, and weights moved from one to the other."""
