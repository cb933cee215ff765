"""Training of the transformer: what both implementations share."""
