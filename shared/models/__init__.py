"""Linen and NNX modules as pure functions: the one place in `shared` that knows Flax's modules."""
