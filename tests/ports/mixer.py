"""An MLP-mixer whose kernels are all square; Linen transposes by method, NNX by `swapaxes`."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

D, N = 8, 2  # as many tokens as channels


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(D)(x)
        y = nn.gelu(y)
        return nn.Dense(D)(y)


class Mixer(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        y = y.transpose(0, 2, 1)
        y = MLP(name="tokens")(y)
        y = y.transpose(0, 2, 1)
        x = x + y
        y = nn.LayerNorm()(x)
        return x + MLP(name="channels")(y)


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(D, name="stem")(x)
        for i in range(N):
            x = Mixer(name=f"mixer_{i}")(x)
        x = nn.LayerNorm(name="last")(x)
        x = jnp.mean(x, axis=1)
        return nn.Dense(D, name="head")(x)


class Dense2(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(D, D, rngs=rngs)
        self.outer = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        h = self.inner(x)
        h = nnx.gelu(h)
        return self.outer(h)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.across = Dense2(rngs)
        self.along = Dense2(rngs)
        self.across_norm = nnx.LayerNorm(D, rngs=rngs)
        self.along_norm = nnx.LayerNorm(D, rngs=rngs)

    def __call__(self, x):
        h = self.across_norm(x)
        h = jnp.swapaxes(h, 1, 2)
        h = self.across(h)
        h = jnp.swapaxes(h, 1, 2)
        x = x + h
        h = self.along_norm(x)
        h = self.along(h)
        return x + h


class Port(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Linear(D, D, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(N)])
        self.norm = nnx.LayerNorm(D, rngs=rngs)
        self.out = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, patches):
        h = self.embed(patches)
        for block in self.blocks:
            h = block(h)
        h = self.norm(h)
        h = jnp.mean(h, axis=1)
        return self.out(h)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((2, D, D), "float32"),),
)
