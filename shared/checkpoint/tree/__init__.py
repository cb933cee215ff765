"""What each leaf of a checkpoint is for."""
