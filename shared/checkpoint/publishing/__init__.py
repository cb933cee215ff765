"""A target that is whole or not there."""
