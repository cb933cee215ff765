"""The checks of a pair: `pipeline.py` is the story, from a pair to a verdict."""
