"""Checkpoints of either API as leaves by path: read, converted, compared, written whole or not."""
