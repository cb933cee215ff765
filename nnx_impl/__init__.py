"""The composed lifts in Flax NNX."""

import shared

if getattr(shared, "PROJECT", None) != "composed-lifts":
    raise ImportError(
        f"composed-lifts needs its own package 'shared', but Python found another one at "
        f"{shared.__file__ or next(iter(shared.__path__))}; rename that one, or take its parent "
        f"folder off PYTHONPATH and the working directory"
    )

from nnx_impl.composed import composed_lifts_forward

__all__ = ["composed_lifts_forward"]
