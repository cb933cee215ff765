"""Several steps of training on both sides, and the first difference between them."""
