"""A file for each format that checkpoints are in, and `table`: which one is at a path."""
