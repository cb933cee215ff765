"""What each leaf of a target is made of, and its numbers."""
