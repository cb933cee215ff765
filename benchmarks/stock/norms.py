"""Layers that normalise, activations or weights."""

import dataclasses

import jax
from flax import linen as nn
from flax import nnx

from benchmarks.stock.row import Row, array
from shared import Pair

B, T, D, OUT = 3, 5, 4, 6
LINE, IMAGE = (B, T, D), (B, 4, 5, D)
FAR = 100.0


def norm(name, shape, **options):
    """A norm of activations; of `D` features, which NNX is told."""

    def make(dtype, inputs=None):
        return Pair(
            getattr(nn, name)(dtype=dtype, **options),
            lambda rngs: getattr(nnx, name)(D, dtype=dtype, rngs=rngs, **options),
            inputs or (array(dtype, *shape),),
        )

    return make


def of_far(make, shape):
    """The same of float32 far from 0, which half precision holds badly: a residual stream, say."""

    def inputs(key):
        return (FAR + jax.random.normal(key, shape),)

    return lambda dtype: make(dtype, inputs)


def twice(make):
    """The same called twice in a row, the first time for what that leaves."""

    def called(dtype):
        pair = make(dtype)

        def call(words):
            def both(module, x):
                module(x, **words)
                return module(x, **words)

            return both

        calls = {"linen_call": call(pair.linen_kwargs), "nnx_call": call(pair.nnx_kwargs)}
        return dataclasses.replace(pair, **calls)

    return called


def weight_norm(own=False, **options):
    """A dense layer whose kernel is normalised.

    Args:
      own: whether the norm is given the dtype too, and not the layer alone.
    """

    def make(dtype):
        words = {**options, "dtype": dtype} if own else options

        def build(rngs):
            layer = nnx.Linear(D, OUT, dtype=dtype, rngs=rngs)
            return nnx.WeightNorm(layer, rngs=rngs, **words)

        layer = nn.Dense(OUT, dtype=dtype)
        return Pair(nn.WeightNorm(layer, **words), build, (array(dtype, B, D),))

    return make


def spectral_norm(own=False):
    """The same by its largest singular value, whose estimate is updated in training."""

    def make(dtype):
        words = {"dtype": dtype} if own else {}

        def build(rngs):
            layer = nnx.Linear(D, OUT, dtype=dtype, rngs=rngs)
            return nnx.SpectralNorm(layer, update_stats=False, rngs=rngs, **words)

        return Pair(
            nn.SpectralNorm(nn.Dense(OUT, dtype=dtype), **words),
            build,
            (array(dtype, B, D),),
            linen_kwargs={"update_stats": False},
        )

    return make


_WORDS = {
    "LayerNorm": (LINE, {}),
    "RMSNorm": (LINE, {}),
    "GroupNorm": (IMAGE, {"num_groups": 2}),
    "InstanceNorm": (IMAGE, {}),
    "BatchNorm": (IMAGE, {"use_running_average": True}),
}
# {name: (what makes the pair, the shape of its input, what both norms are told)}
NORMS = {
    name: (norm(name, shape, **words), shape, words) for name, (shape, words) in _WORDS.items()
}
_EACH = norm("GroupNorm", LINE, num_groups=2, reduction_axes=(-1,))
_HOW_FAR = f"of float32 of mean {FAR:g}"

ROWS = (
    *(Row(name, name, make) for name, (make, *_) in NORMS.items()),
    *(Row(name, name, of_far(*each[:2]), _HOW_FAR) for name, each in NORMS.items()),
    Row("GroupNorm", "GroupNorm", _EACH, "reduction_axes that leave two"),
    Row("WeightNorm", "WeightNorm", weight_norm()),
    Row("WeightNorm", "WeightNorm", weight_norm(use_scale=False), "use_scale=False"),
    Row("WeightNorm", "WeightNorm", twice(weight_norm()), "called twice"),
    Row("WeightNorm", "WeightNorm", weight_norm(True), "dtype of its own"),
    Row("SpectralNorm", "SpectralNorm", spectral_norm()),
    Row("SpectralNorm", "SpectralNorm", spectral_norm(True), "dtype of its own"),
)
