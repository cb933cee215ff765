"""Convolutions with stochastic depth, batch norm and noise; called at evaluation, by `train`."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

F, N = 4, 2
RATES = (0.1, 0.3)
fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class DropPath(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, train):
        if not train:
            return x
        shape = (x.shape[0], 1, 1, 1)
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.rate, shape)
        return jnp.where(keep, x / (1.0 - self.rate), 0.0)


class Block(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, train):
        y = nn.Conv(F, (3, 3), use_bias=False, kernel_init=fan_out)(x)
        y = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-3)(y)
        y = nn.silu(y)
        y = nn.Conv(F, (3, 3), use_bias=False, kernel_init=fan_out)(y)
        y = nn.BatchNorm(not train, momentum=0.9, scale_init=nn.initializers.zeros)(y)
        y = DropPath(self.rate)(y, train)
        return nn.silu(x + y)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        if train:
            x = x + 0.05 * jax.random.normal(self.make_rng("dropout"), x.shape)
        x = nn.Conv(F, (3, 3), name="stem")(x)
        for i in range(N):
            x = Block(RATES[i], name=f"block_{i}")(x, train)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dropout(0.2)(x, deterministic=not train)
        return nn.Dense(3, bias_init=nn.initializers.constant(-2.0), name="head")(x)


class Skip(nnx.Module):
    def __init__(self, rate, rngs):
        self.rate, self.rngs = rate, rngs.dropout.fork()

    def __call__(self, x, train):
        if not train:
            return x
        shape = (x.shape[0], 1, 1, 1)
        kept = jax.random.bernoulli(self.rngs(), 1.0 - self.rate, shape)
        return jnp.where(kept, x / (1.0 - self.rate), 0.0)


class Residual(nnx.Module):
    def __init__(self, rate, rngs):
        self.conv1 = nnx.Conv(F, F, (3, 3), use_bias=False, kernel_init=fan_out, rngs=rngs)
        self.bn1 = nnx.BatchNorm(F, momentum=0.9, epsilon=1e-3, rngs=rngs)
        self.conv2 = nnx.Conv(F, F, (3, 3), use_bias=False, kernel_init=fan_out, rngs=rngs)
        self.bn2 = nnx.BatchNorm(F, momentum=0.9, scale_init=nnx.initializers.zeros, rngs=rngs)
        self.skip = Skip(rate, rngs)

    def __call__(self, x, train):
        h = self.conv1(x)
        h = self.bn1(h, use_running_average=not train)
        h = nnx.silu(h)
        h = self.conv2(h)
        h = self.bn2(h, use_running_average=not train)
        h = self.skip(h, train)
        return nnx.silu(x + h)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, F, (3, 3), rngs=rngs)
        self.blocks = nnx.List([Residual(rate, rngs) for rate in RATES])
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(F, 3, bias_init=nnx.initializers.constant(-2.0), rngs=rngs)
        self.rngs = rngs.dropout.fork()

    def __call__(self, x, train):
        if train:
            x = x + 0.05 * jax.random.normal(self.rngs(), x.shape)
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, train)
        h = jnp.mean(h, axis=(1, 2))
        h = self.drop(h, deterministic=not train)
        return self.head(h)


PAIR = Pair(
    linen=Net(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((3, 5, 5, 3), "float32"),),
    linen_kwargs={"train": False},
    nnx_kwargs={"train": False},
)
