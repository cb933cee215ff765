"""What travels with a checkpoint, and tells whether it is whole."""
