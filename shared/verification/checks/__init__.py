"""What is compared of two models: one property per file, from a `Ported` to a `Check`."""
