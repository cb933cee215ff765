"""A stack that is scanned and also summed as a whole: its gradient is in one piece."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify

F, N = 4, 3
X = (jax.ShapeDtypeStruct((2, F), "float32"),)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return jnp.sin(nn.Dense(F)(x)), None


class Decayed(nn.Module):
    @nn.compact
    def __call__(self, x):
        axes, rngs = {"params": 0}, {"params": True}
        stack = nn.scan(Layer, variable_axes=axes, split_rngs=rngs, length=N)()
        y, _ = stack(x, None)
        return y, jnp.sum(stack.variables["params"]["Dense_0"]["kernel"] ** 2)


@jax.custom_vjp
def wrong_square(x):
    return x**2


wrong_square.defvjp(lambda x: (x**2, x), lambda x, g: (3 * x * g,))


class PortLayer(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        return jnp.sin(self.dense(x))


class Port(nnx.Module):
    def __init__(self, rngs, square):
        self.layers, self.square = nnx.List([PortLayer(rngs) for _ in range(N)]), square

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x, sum(jnp.sum(self.square(layer.dense.kernel[...])) for layer in self.layers)


@pytest.mark.parametrize(("square", "right"), [(jnp.square, True), (wrong_square, False)])
def test_gradients_of_what_is_used_in_two_ways(square, right):
    found = verify(Pair(Decayed(), lambda rngs: Port(rngs, square), X), samples=1)
    assert (found.verdict in ("equal", "close")) == right
    assert found.unmatched_linen == []
    (gradients,) = (check for check in found.checks if check.name == "gradients")
    assert (gradients.status == "different") != right
