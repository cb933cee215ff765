"""A dense layer and what becomes of its result: one pair for each mistake that needs no more."""

from flax import linen as nn
from flax import nnx

from shared import Pair


class Dense(nn.Module):
    """What `then` makes of a dense layer of the first input, and of the other inputs."""

    then: object
    dtype: object = None

    @nn.compact
    def __call__(self, x, *more):
        return self.then(nn.Dense(x.shape[-1], dtype=self.dtype, name="dense")(x), *more)


class Port(nnx.Module):
    def __init__(self, features, then, dtype, rngs):
        self.dense, self.then = nnx.Linear(features, features, dtype=dtype, rngs=rngs), then

    def __call__(self, x, *more):
        return self.then(self.dense(x), *more)


def then(linen, nnx, inputs, dtype=None):
    """The pair whose dense layers are followed by the functions `linen` and `nnx`.

    Args:
      linen: of the layer's result, (..., F), and of the other inputs; nnx: the same.
      inputs: (x, (..., F), and others).
      dtype: in which the layers compute.
    """
    features = inputs[0].shape[-1]
    return Pair(Dense(linen, dtype), lambda rngs: Port(features, nnx, dtype, rngs), inputs)
