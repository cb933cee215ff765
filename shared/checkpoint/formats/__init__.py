"""Readers and writers of checkpoints: one file for each format, what is its own beside it."""
