"""One stack of layers, written in every way that a stack can be written."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

F, N = 6, 12


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return jnp.sin(nn.Dense(F)(x)), None


class Scanned(nn.Module):
    axis: int = 0

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            Layer, variable_axes={"params": self.axis}, split_rngs={"params": True}, length=N
        )
        return scan()(x, None)[0]


class Nested(nn.Module):
    @nn.compact
    def __call__(self, x):
        inner = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=4)
        outer = nn.scan(inner, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return outer()(x, None)[0]


class Loop(nn.Module):
    def setup(self):
        self.layers = [Layer() for _ in range(N)]

    def __call__(self, x):
        for layer in self.layers:
            x, _ = layer(x)
        return x


class PortLayer(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        return jnp.sin(self.dense(x))


class PortList(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([PortLayer(rngs) for _ in range(N)])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class PortAttributes(nnx.Module):
    def __init__(self, rngs):
        for i in range(N):
            setattr(self, f"block_{i}", PortLayer(rngs))

    def __call__(self, x):
        for i in range(N):
            x = getattr(self, f"block_{i}")(x)
        return x


class PortStack(nnx.Module):
    def __init__(self, rngs, axis=0):
        self.axis = axis
        self.blocks = nnx.vmap(PortLayer, out_axes=axis)(rngs.split(N))

    def __call__(self, x):
        def apply(x, block):
            return block(x)

        return nnx.scan(apply, in_axes=(nnx.Carry, self.axis), out_axes=nnx.Carry)(x, self.blocks)


class PortBackwards(PortStack):
    def __call__(self, x):
        def apply(x, block):
            return block(x)

        axes = (nnx.Carry, 0)
        return nnx.scan(apply, in_axes=axes, out_axes=nnx.Carry, reverse=True)(x, self.blocks)


INPUTS = (jax.ShapeDtypeStruct((3, F), "float32"),)
LINEN = {"scan": Scanned(), "axis 1": Scanned(1), "nested": Nested(), "loop": Loop()}
NNX = {
    "list": lambda rngs: PortList(rngs),
    "attributes": lambda rngs: PortAttributes(rngs),
    "stack": lambda rngs: PortStack(rngs),
    "axis 1": lambda rngs: PortStack(rngs, 1),
}
PAIRS = {
    f"{a} to {b}": Pair(linen=linen, nnx=nnx, inputs=INPUTS)
    for a, linen in LINEN.items()
    for b, nnx in NNX.items()
}
BACKWARDS = Pair(linen=Scanned(), nnx=lambda rngs: PortBackwards(rngs), inputs=INPUTS)
